"""gitleaks' and betterleaks' TOML: one language, to which betterleaks adds filter expressions.

The engine uses only the regexes and silently ignores the rest. So this module turns entropy, allowlists, stopwords and paths into
filter expressions, with the meaning that they have in gitleaks' own code. `reports` applies keywords, required rules and `skipReport` after
the scan.

Source: gitleaks' config/config.go, config/allowlist.go and detect/detect.go.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from worker.extract.packs.allowlists import ALLOWLIST, allowlist
from worker.extract.packs.expressions import SECRET, either, low_entropy, rewritten
from worker.extract.packs.fields import Fields, Reading
from worker.extract.packs.model import Dialect, Pack, Requirement, Rule
from worker.extract.packs.source import refused

_TOP = "title description extend rules allowlist allowlists minversion betterleaksminversion prefilter filter"
_NETWORK = "validate analyze revoke"
_RULE = (
    "id description regex path secretgroup valuegroup entropy keywords tags allowlist allowlists required components "
    f"skipreport filter confidence tokenefficiency specificity severity examples negative_examples {_NETWORK}"
)
_BETTERLEAKS = f"filter components confidence tokenefficiency valuegroup {_NETWORK}"
_HEADER = re.compile(r"\s*\[\[\s*rules\s*\]\]")
_ID = re.compile(r"\s*[\"']?id[\"']?\s*=", re.IGNORECASE)
_WITHIN = re.compile(r"([+-]?)(\d{1,9})([LC])")


def parse(file: Path, name: str, text: str) -> Pack:
    """Parse a pack from a TOML file.

    Raises:
        PackRefused: with all its problems.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r"line (\d+)", str(error))
        last = text.rstrip().count("\n") + 1
        raise refused(file, f"is not valid TOML: {error}", int(at[1]) if at else last) from None
    return _Reader(file, name, text, raw).pack()


class _Reader(Reading):
    def __init__(self, file: Path, name: str, text: str, raw: dict[str, Any]) -> None:
        super().__init__(file)
        self._name = name
        self._top = self._fields(raw, _TOP)
        self._raw_rules = self._top.tables("rules")
        self._lines = _lines_of_rules(text, self._raw_rules)
        self._betterleaks = any(key in self._top for key in ("prefilter", "filter", "betterleaksminversion"))

    def pack(self) -> Pack:
        self._extend()
        everywhere, targeted = self._global_allowlists()
        rules = self._rules(targeted)
        parts = [self._expression(self._top.text(key), key) for key in ("prefilter", "filter")]
        discarded = either(parts + everywhere)
        if not self._raw_rules:
            self.say("has no rules: a gitleaks or betterleaks pack is a list of [[rules]]")
        elif not rules and not self.problems:
            self.say("has no rule that searches documents")
        return Pack(
            name=self._name,
            file=self.file,
            dialect=Dialect.BETTERLEAKS if self._betterleaks else Dialect.GITLEAKS,
            rules=tuple(rules),
            left_out=self.left_out(),
            header=f"filter = {_toml(discarded)}\n\n" if discarded else "",
        )

    def _extend(self) -> None:
        if "extend" not in self._top:
            return
        extend = self._fields(self._top["extend"], "path url usedefault disabledrules", "extend: ")
        if extend.flag("usedefault"):
            self.say("'extend' refers to gitleaks' own rules, which are not included: add them as a separate pack")
        if extend.text("path") or extend.text("url"):
            self.say("'extend' refers to another file: add that file as a separate pack")

    def _global_allowlists(self) -> tuple[list[str], dict[str, list[str]]]:
        everywhere: list[str] = []
        targeted: dict[str, list[str]] = {}
        for raw in self._allowlists(self._top):
            fields = self._fields(raw, f"{ALLOWLIST} targetrules", "allowlist: ")
            each = allowlist(fields, self)
            if not (targets := fields.texts("targetrules")):
                everywhere.append(each)
            for target in targets:
                targeted.setdefault(target, []).append(each)
        return everywhere, targeted

    def _allowlists(self, fields: Fields) -> list[object]:
        listed = fields.tables("allowlists")
        if "allowlist" not in fields:
            return listed
        if listed:
            self.say("has an [allowlist] and [[allowlists]]: gitleaks accepts only one of them")
        return [fields["allowlist"]]

    def _rules(self, targeted: dict[str, list[str]]) -> list[Rule]:
        rules = []
        for raw, line in zip(self._raw_rules, self._lines, strict=True):
            self.begin(_id_of(raw), line)
            fields = self._fields(raw, _RULE)
            self.check_id()
            rule = self._read(fields, targeted.get(self.rule, []))
            if rule is not None:
                rules.append(rule)
        known = {rule.id for rule in rules}
        for rule in rules:
            self.begin(rule.id, rule.line)
            for required in rule.requires:
                if required.rule not in known:
                    self.say(f"requires the rule {required.rule!r}, which does not exist")
        self.begin()
        for target in targeted.keys() - set(map(_id_of, self._raw_rules)):
            self.say(f"allowlist: there is no rule {target!r}, which 'targetRules' names")
        return rules

    def _read(self, fields: Fields, more: list[str]) -> Rule | None:
        regex, path, entropy = fields.text("regex"), fields.text("path"), fields.number("entropy")
        self._betterleaks |= any(key in fields for key in _BETTERLEAKS.split())
        self.strip(fields, _NETWORK)
        parts = [low_entropy(entropy)] if entropy else []
        parts += [f"failsTokenEfficiency({SECRET})"] if fields.flag("tokenefficiency") else []
        parts += [allowlist(self._fields(raw, ALLOWLIST, "allowlist: "), self) for raw in self._allowlists(fields)]
        parts += more
        parts.append(self._expression(fields.text("filter"), "filter"))
        confidence = self.confidence(fields)
        group = fields.whole("secretgroup") or fields.whole("valuegroup") or 0
        keywords = tuple(dict.fromkeys(word.lower() for word in fields.texts("keywords")))
        requires = self._requirements(fields)
        if not regex:
            if path:
                self.leave_out("a rule with only a path: the decoder reports secrets in documents, not files")
            else:
                self.say("has neither a regex nor a path")
            return None
        engine_id = f"custom.{self._name}.{self.rule}"
        description = fields.text("description")
        given = {"id": engine_id, "description": description or self.rule, "regex": regex, "path": path}
        written = [(key, _toml(value)) for key, value in given.items() if value]
        written += [("secretGroup", str(group))] if group else []
        written.append(("confidence", _toml(confidence)))
        written += [("filter", _toml(discarded))] if (discarded := either(parts)) else []
        return Rule(
            id=self.rule,
            line=self.line,
            engine_id=engine_id,
            description=description,
            regex=regex,
            confidence=confidence,
            keywords=keywords,
            requires=requires,
            reported=not fields.flag("skipreport"),
            examples=fields.texts("examples"),
            negative_examples=fields.texts("negative_examples"),
            fields=tuple(written),
        )

    def _requirements(self, fields: Fields) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        for raw in fields.tables("required"):
            each = self._fields(raw, "id withinlines withincolumns", "required: ")
            lines, columns = each.whole("withinlines"), each.whole("withincolumns")
            both = [None if near is None else (near, near) for near in (lines, columns)]
            found.append(Requirement(each.text("id"), *both))
        for raw in fields.tables("components"):
            each = self._fields(raw, "id optional within", "components: ")
            near = self._within(each.text("within"))
            if not each.flag("optional"):
                found.append(Requirement(each.text("id"), near.get("L"), near.get("C")))
        return tuple(found)

    def _within(self, within: str) -> dict[str, tuple[int, int]]:
        """Distances before and after, by unit (lines `L`, columns `C`), from `5L`, `-5L,+2L` or `5L,100C`."""
        near: dict[str, tuple[int, int]] = {}
        for part in filter(None, (part.strip() for part in within.split(","))):
            if not (bound := _WITHIN.fullmatch(part)):
                self.say(f"components: 'within' is a distance such as `5L` or `-5L,+2L`, not {part!r}")
                continue
            before, after = near.get(bound[3], (0, 0))
            size = int(bound[2])
            near[bound[3]] = (before if bound[1] == "+" else size, after if bound[1] == "-" else size)
        return near

    def _expression(self, expression: str, key: str) -> str:
        return rewritten(expression, lambda reason: self.say(f"{key}: {reason}")) if expression.strip() else ""

    def _fields(self, raw: object, known: str, prefix: str = "") -> Fields:
        return Fields(raw, known, self.say, prefix=prefix, fold=True)


def _id_of(raw: object) -> str:
    found = next((value for key, value in raw.items() if key.lower() == "id"), "") if isinstance(raw, dict) else ""
    return found if isinstance(found, str) else ""


def _lines_of_rules(text: str, rules: list[object]) -> list[int]:
    """The line of each rule: of its `id`, or of its [[rules]]. tomllib does not report lines, so this counts the headers."""
    lines = text.split("\n")
    headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
    if len(headers) != len(rules):  # rules are inline, or a text contains something like a header
        return [_first_naming(lines, _id_of(rule)) for rule in rules]
    found = []
    for header, end in zip(headers, [*headers, len(lines) + 1][1:], strict=True):
        own = range(header + 1, end)
        found.append(next((number for number in own if _ID.match(lines[number - 1])), header))
    return found


def _first_naming(lines: list[str], name: str) -> int:
    named = re.compile(rf"\bid[\"']?\s*=\s*[\"']{re.escape(name)}[\"']", re.IGNORECASE)
    return next((number for number, line in enumerate(lines, 1) if named.search(line)), 1)


def _toml(text: str) -> str:
    """A text in TOML notation: the same as JSON, except for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
