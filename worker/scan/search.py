"""One search of many files: the new secrets of each, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from mission.errors import MissionFailed
from mission.model import Confidence, Extraction, Secret
from worker.extract import Extractor
from worker.scan.baseline import Baseline, fingerprint
from worker.scan.inputs import Inputs, Unreadable
from worker.scan.sarif import Sarif

_NAMED = 3  # at most this many inputs that were not searched to the end are named


@dataclass(frozen=True, slots=True)
class Searched:
    """The outcome of one input.

    Attributes:
        source: its name, safe to print.
        secrets: the reported secrets, each with its fingerprint.
        cut: the limits that ended its search early.
    """

    source: str
    secrets: Sequence[tuple[Secret, str]]
    cut: Sequence[str]


class Search:
    """A search, input after input.

    Args:
        names: files and folders, or `-`.
        extractor: finds the secrets.
        least: the lowest confidence to report.
        baseline: known secrets, which are not reported.
        report: a SARIF report to write as well.
        complain: called with a line about each input that cannot be read.
        but: files in folders that are not searched.
    """

    def __init__(
        self,
        names: Sequence[str],
        extractor: Extractor,
        *,
        least: Confidence,
        baseline: Baseline,
        report: Sarif | None,
        complain: Callable[[str], None],
        but: frozenset[tuple[int, int]],
    ) -> None:
        self._inputs = Inputs(names, self._fail, but)
        self._extractor = extractor
        self._reported = Confidence.at_least(least)
        self._baseline = baseline
        self._report = report
        self._complain = complain
        self._cut: dict[str, Sequence[str]] = {}
        self._cuts = 0
        self.found = 0
        self.failed = 0

    def __iter__(self) -> Iterator[Searched]:
        for each in self._inputs:
            try:
                body = self._inputs.read(each)
                if body is None:
                    continue
                extraction = self._extractor.extract(body)
                del body  # up to a gigabyte, before the next one is read
            except (Unreadable, MissionFailed) as problem:
                self._fail(each.name, str(problem))
                continue
            yield self._searched(each.name, extraction)

    def _searched(self, name: str, extraction: Extraction) -> Searched:
        location, source = self._inputs.location(name), click.format_filename(name)
        marked = ((each, fingerprint(location, each)) for each in extraction if each.confidence in self._reported)
        secrets = [(each, mark) for each, mark in marked if not self._baseline.knows(mark)]
        self.found += len(secrets)
        if self._report:
            for each, mark in secrets:
                self._report.add(location, each, mark)
        cut = sorted(map(str, extraction.cut))
        if cut:
            self._cuts += 1
            if self._cuts <= _NAMED:
                self._cut[source] = cut
        return Searched(source, secrets, cut)

    def _fail(self, name: str, problem: str) -> None:
        self.failed += 1
        self._complain(f"{click.format_filename(name)}: {problem}")
        if self._report:
            self._report.fail()

    def left_out(self) -> str:
        """One line about inputs that were skipped or not searched to the end, and known secrets; empty if there are none."""
        said = []
        if skipped := ", ".join(f"{why}: {number}" for why, number in sorted(self._inputs.skipped.items())):
            said.append(f"skipped: {skipped}")
        if self._cuts:
            named = [f"{source} ({', '.join(cut)})" for source, cut in self._cut.items()]
            named += [f"{self._cuts - _NAMED} more"] if self._cuts > _NAMED else []
            said.append(f"not searched to the end: {', '.join(named)}")
        if self._baseline.known:
            said.append(f"in the baseline: {self._baseline.known}")
        return "; ".join(said)
