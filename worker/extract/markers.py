"""Secrets between markers, `{* KEY: value *}`: found in one pass, in linear time on every input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from worker.extract.findings import MAX_SECRET_BYTES

UNCLASSIFIED = "UNCLASSIFIED"

_BLANK = re.compile(r"\s*")
_PIECE = 64 * 1024
_KEY_VALUE = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,63}):\s+")


@dataclass(frozen=True, slots=True)
class Marked:
    """The text between two markers; its value has the characters from `start` to before `end`."""

    category: str
    value: str = field(repr=False)
    start: int
    end: int


class Markers:
    """Finds text between markers. It has no state, so any number of threads may share it.

    A secret is the text between an opening marker and the next closing one that holds no other opening marker; it may
    span lines. White space around it is dropped, and an empty text does not count. Markers are read from left to
    right and do not overlap: `{*}` closes nothing.

    `KEY: value` has the category KEY, where KEY is a letter and up to 63 more of `A-Z a-z 0-9 _ . -` (all ASCII),
    directly followed by a colon and white space (so neither `https://host` nor `host:8080` has a KEY). Everything else,
    also a KEY without a value, is `UNCLASSIFIED`, with the whole text as its value.

    Args:
        opening: the opening marker.
        closing: the closing marker.
    """

    def __init__(self, opening: str = "{*", closing: str = "*}") -> None:
        self.pair = opening, closing
        self._marked = _compile(opening, closing)

    def marked(self, text: str) -> Iterator[Marked]:
        """Every occurrence, in the order of the text."""
        for match in self._marked.finditer(text):
            start, end = _trim(text, *match.span(1))
            if start == end:
                continue  # only if a marker itself contains white space
            key = _KEY_VALUE.match(text, start, end)
            category, start = (key[1], key.end()) if key else (UNCLASSIFIED, start)
            # A value that is too long is refused later; copy only enough to detect that.
            yield Marked(category, text[start : min(end, start + MAX_SECRET_BYTES + 1)], start, end)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Where a span begins and ends without the white space around it. Copies a piece of it at a time."""
    start = cast("re.Match[str]", _BLANK.match(text, start, end)).end()
    while start < end:
        piece = text[max(start, end - _PIECE) : end]
        if kept := len(piece.rstrip()):
            return start, end - len(piece) + kept
        end -= len(piece)
    return start, start


def _compile(opening: str, closing: str) -> re.Pattern[str]:
    """An opening marker, content that is not blank, a closing marker; group 1 is the content.

    The lookahead reads to the next marker and no further; that one must be a closing marker. So each opening marker
    costs only the way to the next marker: the time is linear in the text, and the memory is for one match. Possessive
    repeats would do the same, but in CPython before 3.11.5 (Debian 12 has 3.11.2) they match nothing: gh-106052.
    """
    o, c = re.escape(opening), re.escape(closing)
    return re.compile(rf"{o}(?!\s*{c})(?=(.*?)(?:{c}|{o}))\1{c}", re.DOTALL)
