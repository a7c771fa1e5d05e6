"""Runs rules over a text with Kingfisher's engine: its catalog of providers' credentials, and rules in its format.

Source: https://github.com/mongodb/kingfisher/blob/main/docs/PYPI.md. The decoder uses only that package's rules and scanner, which
open no connection. Its validation and revocation do open connections; the decoder never calls them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from mission.errors import SettingsError
from mission.model import Confidence, Cut
from worker.extract.placeholders import is_placeholder

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

log = logging.getLogger("decoder.extract")

# The scanner reads a text in overlapping pieces. That limits the engine's memory on hostile text, and if a piece takes too long, only
# that one is lost. A piece reports matches that begin between the middles of its overlaps, so each has context on both sides. After a
# piece that takes too long the pieces are small: on some texts the engine's time grows faster than the piece.
PIECE_CHARACTERS: Final = 256 * 1024
SMALL_PIECE_CHARACTERS: Final = 64 * 1024
OVERLAPS: Final = 8
_SHARES: Final = 4  # one piece may take this many times the average time of a piece
_CONTINUED = bytes(range(0x80, 0xC0))
# Prefixes of rule ids, by source; the rest of the id is the category.
_SOURCES = ("betterleaks.", "veles.secrets/", "custom.")
# Rules that the catalog treats as parts of a credential, but that are secrets by themselves. Its other parts are names and addresses.
SECRET_PARTS = frozenset(
    {
        "betterleaks.aws-secret-access-key",
        "betterleaks.alibaba-sts-security-token",
        "betterleaks.exoscale-api-secret",
        "betterleaks.ovh-consumer-key",
        "betterleaks.polymarket-api-secret",
        "betterleaks.polymarket-passphrase",
    }
)


@dataclass(frozen=True, slots=True)
class Match:
    """A rule's match in a text: characters from `start` to before `end`."""

    category: str
    value: str = field(repr=False)
    start: int
    end: int
    confidence: Confidence


class RuleScanner:
    """The rules of one detector. Threads may share it; it releases the GIL while it scans.

    Args:
        detector: the name of the detector.
        scanner: the engine's scanner.
        catalog: whether these are the catalog's rules, which also match placeholders.
    """

    def __init__(self, detector: str, scanner: Scanner, *, catalog: bool) -> None:
        self.detector = detector
        self.cached = scanner.rules.cache_status == "loaded"
        self._scanner = scanner
        self._catalog = catalog

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]:
        """The rules' matches in a text, piece by piece, and in no order within a piece.

        Args:
            text: of a document.
            until: the deadline, on the monotonic clock.
            cut: gets `time` if a small piece took too long, and `engine` if the engine failed on a piece.
        """
        size, begin, told = PIECE_CHARACTERS, 0, 0
        while True:
            overlap = size // OVERLAPS
            end = min(begin + size, len(text))
            last = end == len(text)
            tells = end if last else end - overlap // 2
            pieces = 1 + max(0, ceil((len(text) - end) / (size - overlap)))
            left = until - monotonic()
            if left <= 0:
                cut.add(Cut.TIME)
                return
            try:
                # More than its share, but at most half: the rest is for a second read of it, and for the later pieces.
                for match in self._scan(text[begin:end], begin, left * min(0.5, _SHARES / pieces), cut):
                    if told <= match.start < tells:
                        yield match
            except TimeoutError:
                if size > SMALL_PIECE_CHARACTERS:
                    size = SMALL_PIECE_CHARACTERS
                    continue
                cut.add(Cut.TIME)
            if last:
                return
            begin, told = end - overlap, tells

    def _scan(self, piece: str, begin: int, seconds: float, cut: set[Cut]) -> Iterator[Match]:
        """The matches in a piece that starts at `begin`, which the engine reads as UTF-8. Raises TimeoutError before the first match."""
        data = piece.encode(errors="replace")  # replaces lone surrogates
        try:
            findings = self._scanner.scan(data, timeout=seconds)
        except (RuntimeError, ValueError):  # for example a failed filter; the message may quote the document
            cut.add(Cut.ENGINE)
            return
        characters = counted = 0
        findings.sort(key=lambda finding: int(finding.location["start_offset"]), reverse=True)
        while findings:
            finding = findings.pop()  # findings are large, and there may be many
            if finding.visible or finding.rule_id in SECRET_PARTS:
                start, end = finding.location["start_offset"], finding.location["end_offset"]
                # Counting continues from the finding before, so all findings together read the piece once.
                characters += _characters(data[counted:start])
                counted = start
                category, first = category_of(finding.rule_id), begin + characters
                if not (self._catalog and is_placeholder(category, finding.secret, piece, characters)):
                    last = first + _characters(data[start:end])
                    yield Match(category, finding.secret, first, last, Confidence(finding.confidence))


def _characters(data: bytes) -> int:
    """How many characters begin in a piece of UTF-8."""
    return len(data.translate(None, _CONTINUED))


def load(detector: str, cache: Path, files: Sequence[Path] = ()) -> RuleScanner:
    """A scanner for rule files in the engine's formats; without files, for the catalog of providers.

    Raises:
        SettingsError: the engine rejects the files.
    """
    from kingfisher_sdk import Rules, Scanner  # not every platform has a wheel, and markers need none

    try:
        # `worker.extract.layers` decodes encoded text for all detectors, so the engine does not.
        began = monotonic()
        rules = Rules(files, builtins=not files, confidence="low", cache_dir=cache)
        scanner = RuleScanner(detector, Scanner(rules, base64=False), catalog=not files)
    except (ValueError, OSError, RuntimeError) as error:
        raise SettingsError(f"the rules of {detector} cannot be loaded: {error}") from None
    if not scanner.cached:
        took = monotonic() - began
        about = {"event.action": "rules-compiled", "event.duration": round(took * 1e9), "decoder.detector": detector}
        log.info("compiled the rules of %s in %.1f s: %s had no usable copy", detector, took, cache, extra=about)
    return scanner


@cache
def category_of(rule_id: str) -> str:
    """The category that is reported for a rule: its id without the source's prefix."""
    for source in _SOURCES:
        if rule_id.startswith(source):
            return rule_id.removeprefix(source)
    return rule_id
