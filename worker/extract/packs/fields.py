"""Typed access to a pack's tables: fields that are unknown or of the wrong type are reported, and treated as absent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.extract.packs.model import PackRefused, Problem


class Reading:
    """Collects the problems and the unused parts of a pack while its rules are read one by one.

    Args:
        file: the pack's file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._left_out: list[Problem] = []
        self._stripped: Counter[str] = Counter()
        self._seen: set[str] = set()
        self.rule, self.line = "", 1

    def say(self, reason: str) -> None:
        """Record a problem in the current rule."""
        self.problems.append(Problem(self.file, self.line, self.rule, reason))

    def leave_out(self, reason: str) -> None:
        """Record a part of the current rule that the decoder cannot use."""
        self._left_out.append(Problem(self.file, self.line, self.rule, reason))

    def begin(self, rule: str = "", line: int = 1) -> None:
        """Start the rule with this id; without an id, problems concern the whole pack."""
        self.rule, self.line = rule, line

    def check_id(self) -> None:
        """Check the rule's id, which is its category and names it in the engine."""
        if not self.rule.strip():
            self.say("a rule has no id")
        elif len(self.rule) > 128 or not self.rule.isprintable():
            self.say("an id must have at most 128 printable characters")
        elif self.rule in self._seen:
            self.say("an earlier rule has the same id")
        self._seen.add(self.rule)

    def strip(self, fields: Fields, network: str) -> None:
        """Count the parts of a rule that use the network or revoke a credential. They are never used."""
        self._stripped.update(part for part in network.split() if part in fields)

    def confidence(self, fields: Fields) -> str:
        """A rule's `confidence`."""
        found = fields.text("confidence").lower() or "medium"
        if found not in ("low", "medium", "high"):
            self.say(f"'confidence' must be low, medium or high, not {found!r}")
        return found

    def left_out(self) -> tuple[Problem, ...]:
        """All parts that were left out.

        Raises:
            PackRefused: the pack has problems.
        """
        for part, number in sorted(self._stripped.items()):
            self.leave_out(f"{part!r} of {number} rules: the decoder never asks a service about its findings")
        if self.problems:
            raise PackRefused(self.problems)
        return tuple(self._left_out)


class Fields:
    """The fields of one table.

    Args:
        raw: the table.
        known: the names of its valid fields; others are reported as unknown.
        say: receives each problem.
        prefix: names the table in problems, such as "allowlist: ".
        fold: ignore the case of names, as gitleaks does.
    """

    def __init__(
        self, raw: object, known: str, say: Callable[[str], None], *, prefix: str = "", fold: bool = False
    ) -> None:
        self._tell = say
        self._prefix = prefix
        self._values: dict[str, Any] = {}
        if not isinstance(raw, Mapping):
            self._say("must be a table")
            return
        for written, value in raw.items():
            name = written.lower() if fold and isinstance(written, str) else written
            if name not in known.split():
                self._say(f"unknown key {written!r}")
            elif name in self._values:
                self._say(f"{written!r} occurs twice")
            else:
                self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> object:
        return self._values.get(name)

    def text(self, name: str) -> str:
        """A text; "" if absent."""
        return str(self._of(name, str, "text", ""))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._of(name, list, "a list of texts", [])
        if not all(isinstance(value, str) for value in values):
            self._say(f"{name!r} must be a list of texts")
            return ()
        return tuple(values)

    def flag(self, name: str, default: bool = False) -> bool:  # noqa: FBT001  # the value if absent
        """True or false."""
        return bool(self._of(name, bool, "true or false", default))

    def number(self, name: str) -> float:
        """A number from 0 upwards; 0 if absent."""
        value = self._of(name, (int, float), "a number", 0)
        if isinstance(value, bool) or not math.isfinite(value) or value < 0:
            self._say(f"{name!r} must be a number from 0 upwards")
            return 0.0
        return float(value)

    def whole(self, name: str) -> int | None:
        """A whole number from 0 upwards; None if absent."""
        value = self._of(name, int, "a whole number", None)
        if value is not None and (isinstance(value, bool) or value < 0):
            self._say(f"{name!r} must be a whole number from 0 upwards")
            return None
        return value if value is None else int(value)

    def tables(self, name: str) -> list[object]:
        """A list of tables, which the caller reads with `Fields`."""
        return list(self._of(name, list, "a list of tables", []))

    def _say(self, reason: str) -> None:
        self._tell(self._prefix + reason)

    def _of(self, name: str, kind: type | tuple[type, ...], called: str, default: Any) -> Any:
        if name not in self._values:
            return default
        if not isinstance(self._values[name], kind):
            self._say(f"{name!r} must be {called}")
            return default
        return self._values[name]
