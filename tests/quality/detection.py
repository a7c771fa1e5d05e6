"""The catalog of providers and the generic rules over a text, as extraction ranks them: where two find the same place, the catalog's."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Literal

from tests.quality.scoring import Found

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

RULES = Path(__file__).parents[2] / "worker/extract/generic.toml"
# Parts of a credential by the catalog, and each a secret by itself.
_SECRET_PARTS = {
    "betterleaks.aws-secret-access-key",
    "betterleaks.alibaba-sts-security-token",
    "betterleaks.exoscale-api-secret",
    "betterleaks.ovh-consumer-key",
    "betterleaks.polymarket-api-secret",
    "betterleaks.polymarket-passphrase",
}

Confidence = Literal["low", "medium"]


@cache
def scanner(*, generic: bool, confidence: Confidence = "low") -> Scanner:
    """Of the generic rules or of the catalog, with rules of that confidence and more."""
    from kingfisher_sdk import Rules, Scanner

    paths = [RULES] if generic else []
    rules = Rules(
        paths, builtins=not generic, confidence=confidence, cache_dir=Path(gettempdir()) / "decoder-rule-cache"
    )
    return Scanner(rules, base64=False)


def rule_names() -> list[str]:
    """Of the generic rules."""
    return [rule["id"] for rule in tomllib.loads(RULES.read_text(encoding="utf-8"))["rules"]]


def scan(text: str, confidence: Confidence = "low") -> Iterator[Found]:
    """What both find in a text."""
    data = text.encode()
    taken: list[tuple[int, int]] = []
    for generic in (False, True):
        for finding in scanner(generic=generic, confidence=confidence).scan(data):
            start, end = finding.location["start_offset"], finding.location["end_offset"]
            if not (finding.visible or finding.rule_id in _SECRET_PARTS):
                continue
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            taken.append((start, end))
            yield Found(data.count(b"\n", 0, start) + 1, finding.rule_id.partition(".")[2], finding.secret)
