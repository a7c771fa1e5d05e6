"""The findings of the rules in a text, as extraction reports them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from mission.model import Confidence
from tests.quality.scoring import Found
from worker.extract import Detectors, Extractor


@cache
def extractor() -> Extractor:
    """With the catalog of providers and the generic rules."""
    return Extractor(Detectors(("provider", "generic")))


def scan(text: str, least: Confidence = Confidence.LOW) -> Iterator[Found]:
    """Their findings with at least that confidence."""
    for secret in extractor().search(text):
        if secret.confidence in Confidence.at_least(least):
            yield Found(secret.line, secret.category, secret.value)
