"""How a check comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check came out. `FAIL` is a must that is not met; `SKIP` what this login cannot judge and need not."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check: its name, how it came out, and what is or what to do about it, in one line."""

    check: str
    level: Level
    detail: str


Verdict = tuple[Level, str]
