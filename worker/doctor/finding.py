"""Results of checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The result of a check. `FAIL` is an unmet requirement; `SKIP` a check that this login cannot do and need not."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check: its name, its result, and one line with the state or the remedy."""

    check: str
    level: Level
    detail: str


Verdict = tuple[Level, str]
