"""The model of a loaded pack: its rules, the text that the engine loads for them, and its problems."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from mission.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in a pack, or a part of it that the decoder does not support.

    Args:
        file: the path as given.
        line: from 1; None if the file could not be read.
        rule: its id, or "" if the problem is in no rule.
        reason: for the pack's author.
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
    """The format of a pack."""

    GITLEAKS = "gitleaks"
    BETTERLEAKS = "betterleaks"
    KINGFISHER = "kingfisher"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Another rule that must find something nearby for a finding to count (composite rules).

    Args:
        rule: the other rule's id.
        lines: the maximum distance before and after, in lines; None for anywhere.
        columns: the same in columns.
    """

    rule: str
    lines: tuple[int, int] | None
    columns: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a pack.

    Args:
        id: from the pack.
        line: in the file, from 1.
        engine_id: the id in the engine's findings.
        description: for people.
        regex: in the engine's syntax.
        confidence: `low`, `medium` or `high`.
        keywords: in lower case. If there are any, the document must contain one of them.
        requires: rules that must find something nearby.
        reported: False for a rule that only serves other rules.
        examples: texts that must match.
        negative_examples: texts that must not match.
        fields: the names and values that the engine loads, in the format's own notation.
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
        """The same rule without some of the engine's fields."""
        return replace(self, fields=tuple(field for field in self.fields if field[0] not in names))


@dataclass(frozen=True, slots=True)
class Pack:
    """A file of rules.

    Args:
        name: the file's name without its extension; the detector is `pack:NAME`.
        file: the path that it was read from.
        dialect: its format.
        rules: in the file's order.
        left_out: rules and parts that the scan of a document cannot use, each with its reason. The pack loads without them.
        header: the text before the rules in the engine's file.
    """

    name: str
    file: Path
    dialect: Dialect
    rules: tuple[Rule, ...]
    left_out: tuple[Problem, ...]
    header: str = ""

    @property
    def detector(self) -> str:
        """The name of the detector that its findings carry."""
        return f"pack:{self.name}"

    def write(self, folder: Path, rules: Iterable[Rule] | None = None) -> Path:
        """Write the engine's file, with all rules or some, to a private folder."""
        # The engine detects the format by the extension.
        file = folder / ("pack.yml" if self.dialect is Dialect.KINGFISHER else "pack.toml")
        file.write_text(self.text(rules), encoding="utf-8")
        return file

    def text(self, rules: Iterable[Rule] | None = None) -> str:
        """The content of the engine's file. It has no network parts."""
        rules = self.rules if rules is None else rules
        if self.dialect is Dialect.KINGFISHER:
            # JSON is valid YAML, and needs no YAML writer.
            objects = ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in r.fields) + "}" for r in rules)
            return '{"rules": [\n' + ",\n".join(objects) + "\n]}\n"
        tables = ("[[rules]]\n" + "".join(f"{name} = {value}\n" for name, value in rule.fields) for rule in rules)
        return self.header + "\n".join(tables)
