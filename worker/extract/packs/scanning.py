"""A pack's rules over a text, as any detector's: the engine finds, and what the pack means by it is kept."""

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

# Findings of composite rules wait until the whole text was searched: as many as any result may hold.
_MAX_WAITING = 10_000


class _Rules(Protocol):
    @property
    def cached(self) -> bool: ...

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]: ...


class PackScanner:
    """A pack as a detector. Threads may share it.

    Args:
        pack: whose rules they are.
        rules: the same in the engine.
    """

    def __init__(self, pack: Pack, rules: _Rules) -> None:
        self.detector = pack.detector
        self.cached = rules.cached
        self._pack = pack
        self._rules = rules
        self._by_category = {rule.engine_id.removeprefix("custom."): rule for rule in pack.rules}

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]:
        """What the pack's rules report in a text; those that require others come last.

        Args:
            text: of a document.
            until: on the monotonic clock.
            cut: gets what `RuleScanner.matches` says, and `secrets` where too many wait for what they require.
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
    """A pack as a detector.

    Args:
        pack: read from its file.
        cache: where the engine keeps compiled rules, by their content.

    Raises:
        PackRefused: the engine does not take all of its rules: with each of them, and why.
    """
    rules = None
    with tempfile.TemporaryDirectory(prefix="decoder-rules-") as folder, suppress(SettingsError):
        rules = load(pack.detector, cache, [pack.write(Path(folder))])
    # Only now, as it leaves the cache warm: `cached` says how it was found.
    if rules is None or filters_fail(pack, cache):
        raise PackRefused(unloadable(pack, cache))
    return PackScanner(pack, rules)
