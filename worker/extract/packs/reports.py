"""Decides which of the engine's findings in a document a pack reports, by keywords and required rules.

The engine ignores both. An expression would search the whole text for a keyword at each finding: a hostile document would cost the
number of its findings times its length. This module searches once per rule and text, after the first finding, whose own text nearly always
contains the word. It searches the whole text for keywords; gitleaks searches pieces of some 100 KB.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from worker.extract.engine import Match
from worker.extract.packs.model import Requirement, Rule
from worker.extract.places import Places

_PIECE = 64 * 1024


class Report:
    """The findings that a pack reports in one text.

    Args:
        rules: the pack's rules.
        text: the whole text.
    """

    def __init__(self, rules: Iterable[Rule], text: str) -> None:
        self._text = text
        self._lowered = b""
        self._open: dict[str, bool] = {}
        # As in gitleaks, a required rule needs no keyword. A finding takes only 8 bytes, because there may be many.
        self._starts = {required.rule: array("Q") for rule in rules for required in rule.requires}

    def counts(self, rule: Rule, start: int) -> bool:
        """Whether a finding counts by its own rule, before required rules.

        Args:
            rule: the finding's rule.
            start: the finding's first character.
        """
        if (starts := self._starts.get(rule.id)) is not None:
            starts.append(start)
        if rule.id not in self._open:
            self._open[rule.id] = rule.reported and self._has_keyword(rule)
        return self._open[rule.id]

    def _has_keyword(self, rule: Rule) -> bool:
        if not rule.keywords:
            return True
        if not self._lowered:  # in pieces and in UTF-8: the whole text at once takes up to 16 bytes per character
            pieces = (self._text[at : at + _PIECE].lower() for at in range(0, len(self._text), _PIECE))
            self._lowered = b"".join(piece.encode(errors="replace") for piece in pieces)
        return any(word.encode() in self._lowered for word in rule.keywords)

    def complete(self, found: Iterable[tuple[Rule, Match]]) -> Iterator[Match]:
        """The findings of composite rules that have all required rules nearby. Call it after the whole text was searched."""
        found = sorted(found, key=lambda each: each[1].start)
        if not found:
            return
        near = {name: _Near(self._text, starts) for name, starts in self._starts.items()}
        places = Places(self._text)
        for rule, match in found:
            place = places.at(match.start)
            if all(near[required.rule].has(place, required) for required in rule.requires):
                yield match


class _Near:
    """The positions of one rule's findings."""

    def __init__(self, text: str, starts: Iterable[int]) -> None:
        places = Places(text)
        self._columns: dict[int, list[int]] = {}
        for start in sorted(starts):
            line, column = places.at(start)
            self._columns.setdefault(line, []).append(column)
        self._lines = sorted(self._columns)
        self._all = sorted(column for columns in self._columns.values() for column in columns)

    def has(self, place: tuple[int, int], required: Requirement) -> bool:
        line, column = place
        if required.columns is None:
            return bool(self._lines) and (required.lines is None or _within(self._lines, line, required.lines))
        if required.lines is None:
            return _within(self._all, column, required.columns)
        first = bisect_left(self._lines, line - required.lines[0])
        last = bisect_right(self._lines, line + required.lines[1])
        return any(_within(self._columns[other], column, required.columns) for other in self._lines[first:last])


def _within(values: list[int], at: int, near: tuple[int, int]) -> bool:
    found = bisect_left(values, at - near[0])
    return found < len(values) and values[found] <= at + near[1]
