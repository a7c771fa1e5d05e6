"""Runs a pack as a detector: the engine searches, and `reports` applies the pack's own conditions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mission.errors import SettingsError
from mission.model import Cut
from worker.extract.engine import Match, load
from worker.extract.packs.model import Pack, PackRefused, Rule
from worker.extract.packs.reports import Report
from worker.extract.packs.trial import filters_fail, unloadable

# Findings of composite rules wait until the whole text was searched; at most as many as a result may contain.
_MAX_WAITING = 10_000


class _Rules(Protocol):
    @property
    def cached(self) -> bool: ...

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]: ...


class PackScanner:
    """A pack as a detector. Threads may share it.

    Args:
        pack: the pack.
        rules: its rules, loaded in the engine.
    """

    def __init__(self, pack: Pack, rules: _Rules) -> None:
        self.detector = pack.detector
        self.cached = rules.cached
        self._pack = pack
        self._rules = rules
        self._by_category = {rule.engine_id.removeprefix("custom."): rule for rule in pack.rules}

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]:
        """The findings that the pack's rules report in a text; those of composite rules come last.

        Args:
            text: of a document.
            until: the deadline, on the monotonic clock.
            cut: gets the reasons of `RuleScanner.matches`, and `secrets` if too many findings wait for required rules.
        """
        report = Report(self._pack.rules, text)
        waiting: list[tuple[Rule, Match]] = []
        for match in self._rules.matches(text, until, cut):
            rule = self._by_category[match.category]
            if not report.counts(rule, match.start):
                continue
            found = replace(match, category=rule.id)
            if not rule.requires:
                yield found
            elif len(waiting) < _MAX_WAITING:
                waiting.append((rule, found))
            else:
                cut.add(Cut.SECRETS)
        yield from report.complete(waiting)


def scanner(pack: Pack, cache: Path) -> PackScanner:
    """Load a pack as a detector.

    Args:
        pack: read from its file.
        cache: the engine's folder for compiled rules, keyed by content.

    Raises:
        PackRefused: the engine rejects some of its rules; with each of them, and the reason.
    """
    rules = None
    with tempfile.TemporaryDirectory(prefix="decoder-rules-") as folder, suppress(SettingsError):
        rules = load(pack.detector, cache, [pack.write(Path(folder))])
    # Only after loading, because this fills the cache, and `cached` must report its state before.
    if rules is None or filters_fail(pack, cache):
        raise PackRefused(unloadable(pack, cache))
    return PackScanner(pack, rules)
