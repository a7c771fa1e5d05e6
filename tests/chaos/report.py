"""The results of a scenario, counted from the ledger, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

T = TypeVar("T")


class Scale(Enum):
    """The scale of a scenario: `SHORT` for every run of the suite, `LONG` for the documented guarantees."""

    SHORT = 0
    LONG = 1

    def pick(self, short: T, long: T) -> T:
        """The value for this scale."""
        return short if self is Scale.SHORT else long


@dataclass(slots=True)
class Report:
    """The counts of one scenario.

    Attributes:
        accepted: ids returned by an enqueue.
        lost: accepted ids that are not in a terminal state at the end, or not in the ledger.
        doubled: missions that ended more than once, or have another mission's result.
        slowest: the longest time from an injection to the end of a mission in flight at that moment, in seconds.
        drained: seconds from the last injection until no mission was open.
        skipped: why the scenario did not run.
        notes: other measurements.
        problems: broken guarantees.
    """

    name: str
    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    slowest: float = 0.0
    drained: float = 0.0
    skipped: str = ""
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, condition: object, problem: str) -> None:
        """Note a problem if the condition does not hold."""
        if not condition:
            self.problems.append(problem)


_COLUMNS = ("accepted", "succeeded", "failed", "dead", "lost", "double-committed", "slowest recovery", "drained in")


def table(reports: Sequence[Report]) -> str:
    """The reports as a table, with notes and problems below each row."""
    width = max([len("scenario"), *(len(report.name) for report in reports)])
    lines = ["  ".join([f"{'scenario':{width}}", *_COLUMNS])]
    for report in reports:
        counts = (report.accepted, report.succeeded, report.failed, report.dead, report.lost, report.doubled)
        cells = [*map(str, counts), f"{report.slowest:.1f} s", f"{report.drained:.1f} s"]
        row = [f"{cell:>{len(column)}}" for cell, column in zip(cells, _COLUMNS, strict=True)]
        lines.append("  ".join([f"{report.name:{width}}", *row]))
        lines += [f"    SKIPPED: {report.skipped}"] * bool(report.skipped)
        lines += [f"    {note}" for note in report.notes]
        lines += [f"    PROBLEM: {problem}" for problem in report.problems]
    return "\n".join(lines)
