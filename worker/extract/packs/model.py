"""What a pack is once it is read: its rules, what the engine loads for them, and what was wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from mission.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a pack, or that it asks for and the decoder does not have.

    Args:
        file: as it was named.
        line: from 1; None where the file could not be read.
        rule: its id, or "" where no rule is to blame.
        reason: for who wrote the pack.
    """

    file: Path
    line: int | None
    rule: str
    reason: str

    def __str__(self) -> str:
        rule = f"{self.rule}: " if self.rule else ""
        place = f"{self.file}:{self.line}" if self.line else f"{self.file}"
        return f"{place}: {rule}{self.reason}"


class PackRefused(SettingsError):
    """Packs were not loaded; `problems` lists everything that is wrong with them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        what = "a rule file is refused: correct it (`decoder rules check FILE`), or remove it from DECODER_RULES or --rules"
        super().__init__(what, *map(str, self.problems))


class Dialect(Enum):
    """Whose format a pack is written in."""

    GITLEAKS = "gitleaks"
    BETTERLEAKS = "betterleaks"
    KINGFISHER = "kingfisher"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Another rule that must find something near, or the first one's finding does not count (composite rules).

    Args:
        rule: the other one's id.
        lines: how many lines before, and after, it may stand; None for anywhere.
        columns: the same in columns.
    """

    rule: str
    lines: tuple[int, int] | None
    columns: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a pack.

    Args:
        id: as the pack says it.
        line: where it stands, from 1.
        engine_id: what the engine calls it in its findings.
        description: for people.
        regex: what finds it, in the engine's syntax.
        confidence: `low`, `medium` or `high`.
        keywords: in lower case. One of them must stand in the document, where there are any.
        requires: what must stand near.
        reported: False for a rule that only serves others.
        examples: what must match.
        negative_examples: what must not.
        fields: what the engine loads: names and values, in the format's own notation.
    """

    id: str
    line: int
    engine_id: str
    description: str
    regex: str
    confidence: str
    keywords: tuple[str, ...]
    requires: tuple[Requirement, ...]
    reported: bool
    examples: tuple[str, ...]
    negative_examples: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]

    def without(self, *names: str) -> Rule:
        """The same rule, with some of its fields not given to the engine."""
        return replace(self, fields=tuple(field for field in self.fields if field[0] not in names))


@dataclass(frozen=True, slots=True)
class Pack:
    """A file of rules.

    Args:
        name: the file's, without its extension: the detector is `pack:NAME`.
        file: where it was read.
        dialect: whose format it is.
        rules: in the file's order.
        left_out: rules and parts that a document's scan has no use for, each with its reason. They do not make it refused.
        header: what stands before the rules in the engine's text.
    """

    name: str
    file: Path
    dialect: Dialect
    rules: tuple[Rule, ...]
    left_out: tuple[Problem, ...]
    header: str = ""

    @property
    def detector(self) -> str:
        """What its findings are of."""
        return f"pack:{self.name}"

    def write(self, folder: Path, rules: Iterable[Rule] | None = None) -> Path:
        """The file that the engine loads, of all rules or of some, in a folder that is nobody else's."""
        # The engine goes by the extension.
        file = folder / ("pack.yml" if self.dialect is Dialect.KINGFISHER else "pack.toml")
        file.write_text(self.text(rules), encoding="utf-8")
        return file

    def text(self, rules: Iterable[Rule] | None = None) -> str:
        """What that file holds: no network part is in it."""
        rules = self.rules if rules is None else rules
        if self.dialect is Dialect.KINGFISHER:
            # JSON is YAML, and needs no writer of YAML.
            objects = ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in r.fields) + "}" for r in rules)
            return '{"rules": [\n' + ",\n".join(objects) + "\n]}\n"
        tables = ("[[rules]]\n" + "".join(f"{name} = {value}\n" for name, value in rule.fields) for rule in rules)
        return self.header + "\n".join(tables)
