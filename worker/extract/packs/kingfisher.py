"""Kingfisher's YAML, the engine's own format. Keys are checked here, because the engine ignores unknown ones. Network parts are removed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from worker.extract.packs.fields import Fields, Reading
from worker.extract.packs.model import Dialect, Pack, Rule
from worker.extract.packs.source import refused

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 24
_NETWORK = "validation revocation tls_mode prevalidated"
_RULE = (
    "name id pattern path min_entropy confidence visible examples negative_examples references depends_on_rule "
    f"pattern_requirements vectorscan_compatible authoritative {_NETWORK}"
)
_NEEDS = "min_digits min_uppercase min_lowercase min_special_chars special_chars ignore_if_contains checksum"


def parse(file: Path, name: str, text: str) -> Pack:
    """Parse a pack from a YAML file.

    Raises:
        PackRefused: with all its problems.
    """
    try:
        _bound(file, text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            raw = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise refused(file, f"is not valid YAML: {reason}", mark.line + 1 if mark else 1) from None
    except ValueError as error:  # for example an invalid date
        raise refused(file, f"is not valid YAML: {error}") from None
    return _Reader(file, name, raw, node).pack()


def _bound(file: Path, text: str) -> None:
    """Refuse aliases, which expand a small file into a large value, and deep nesting, before the loader builds anything."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise refused(file, "has a YAML alias (`*name`): write out what it stands for", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise refused(file, f"is nested deeper than {_MAX_DEPTH}", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader(Reading):
    def __init__(self, file: Path, name: str, raw: object, node: Any) -> None:
        super().__init__(file)
        self._prefix = f"custom.{name}."
        self._name = name
        listed = node
        if isinstance(raw, dict):
            raw = Fields(raw, "rules", self.say).tables("rules")
            listed = next((value for key, value in node.value if key.value == "rules"), None)
        self._raw: list[Any] = raw if isinstance(raw, list) else []
        self._nodes = listed.value if isinstance(listed, yaml.SequenceNode) else []
        self._ids = {raw.get("id") for raw in self._raw if isinstance(raw, dict) and isinstance(raw.get("id"), str)}

    def pack(self) -> Pack:
        rules = []
        for raw, node in zip(self._raw, self._nodes, strict=True):
            found = raw.get("id") if isinstance(raw, dict) else ""
            self.begin(found if isinstance(found, str) else "", node.start_mark.line + 1)
            self._twice(node)
            fields = Fields(raw, _RULE, self.say)
            self.check_id()
            rules.append(self._read(fields))
        self.begin()
        if not rules:
            self.say("has no rules: a Kingfisher pack is a list `rules:`")
        return Pack(self._name, self.file, Dialect.KINGFISHER, tuple(rules), self.left_out())

    def _read(self, fields: Fields) -> Rule:
        self.strip(fields, _NETWORK)
        pattern, description = fields.text("pattern"), fields.text("name")
        if not pattern:
            self.say("has no pattern")
        confidence = self.confidence(fields)
        engine_id = self._prefix + self.rule
        given: dict[str, Any] = {
            "id": engine_id,
            "name": description or self.rule,
            "pattern": pattern,
            "path": fields.text("path"),
            "min_entropy": fields.number("min_entropy"),
            "confidence": confidence,
            "pattern_requirements": self._needs(fields),
            "depends_on_rule": self._depends(fields),
        }
        return Rule(
            id=self.rule,
            line=self.line,
            engine_id=engine_id,
            description=description,
            regex=pattern,
            confidence=confidence,
            keywords=(),
            requires=(),
            reported=fields.flag("visible", default=True),
            examples=fields.texts("examples"),
            negative_examples=fields.texts("negative_examples"),
            fields=tuple((key, _yaml(value)) for key, value in given.items() if value),
        )

    def _needs(self, fields: Fields) -> object:
        """The unchanged `pattern_requirements`, with unknown keys reported. The engine checks the values itself."""
        raw = fields["pattern_requirements"]
        if raw is not None:
            needs = Fields(raw, _NEEDS, self.say, prefix="pattern_requirements: ")
            if "checksum" in needs:
                checksum = Fields(needs["checksum"], "actual expected skip_if_missing", self.say, prefix="checksum: ")
                Fields(checksum["actual"], "template requires_capture", self.say, prefix="checksum: actual: ")
        return raw

    def _depends(self, fields: Fields) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = []
        for raw in fields.tables("depends_on_rule"):
            if raw is None:  # the engine ignores it too
                continue
            each = Fields(
                raw, "rule_id variable optional within verify_candidates", self.say, prefix="depends_on_rule: "
            )
            other = each.text("rule_id")
            if other not in self._ids:
                self.say(f"depends on the rule {other!r}, which is not in this file")
            depends = {name: each[name] for name in ("variable", "within", "optional") if name in each}
            given.append(depends | {"rule_id": self._prefix + other})
        return given

    def _twice(self, node: Any) -> None:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        names = Counter(key.value for key, _value in pairs)
        for name, number in names.items():
            if number > 1:
                self.say(f"{name!r} occurs twice")


def _yaml(value: object) -> str:
    """A value as YAML, in JSON notation. Values that JSON cannot write, such as dates, become text, which the engine also refuses."""
    return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
