"""gitleaks' and betterleaks' TOML: one language, of which betterleaks' filter expressions are an addition.

What the engine takes of it silently is regexes alone. So entropy, allowlists, stopwords and paths become filter expressions here,
as gitleaks' own code means them; keywords, required rules and `skipReport` are decided after the scan (`reports`).

Source: gitleaks' config/config.go, config/allowlist.go and detect/detect.go.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from worker.extract.packs.allowlists import ALLOWLIST, Allowlist, allowlist
from worker.extract.packs.expressions import SECRET, either, low_entropy, rewritten
from worker.extract.packs.fields import Fields, id_problem
from worker.extract.packs.model import Dialect, Pack, PackRefused, Problem, Requirement, Rule
from worker.extract.packs.source import refused

_TOP = frozenset(
    [
        "title",
        "description",
        "extend",
        "rules",
        "allowlist",
        "allowlists",
        "minversion",
        "betterleaksminversion",
        "prefilter",
        "filter",
    ]
)
# Never used: they ask the network, or take a credential back.
_NETWORK = ("validate", "analyze", "revoke")
_RULE = frozenset(
    [
        "id",
        "description",
        "regex",
        "path",
        "secretgroup",
        "valuegroup",
        "entropy",
        "keywords",
        "tags",
        "allowlist",
        "allowlists",
        "required",
        "components",
        "skipreport",
        "filter",
        "confidence",
        "tokenefficiency",
        "specificity",
        "severity",
        "examples",
        "negative_examples",
    ]
).union(_NETWORK)
_BETTERLEAKS = frozenset(["filter", "components", "confidence", "tokenefficiency", "valuegroup"]).union(_NETWORK)
_EXTEND = frozenset(["path", "url", "usedefault", "disabledrules"])
_HEADER = re.compile(r"\s*\[\[\s*rules\s*\]\]")
_ID = re.compile(r"\s*[\"']?id[\"']?\s*=", re.IGNORECASE)
_WITHIN = re.compile(r"([+-]?)(\d{1,9})([LC])")


def parse(file: Path, name: str, text: str) -> Pack:
    """A pack of a TOML file.

    Raises:
        PackRefused: with all that is wrong in it.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r"line (\d+)", str(error))
        last = text.rstrip().count("\n") + 1
        raise refused(file, f"is no TOML: {error}", int(at[1]) if at else last) from None
    return _Reader(file, name, text, raw).pack()


class _Reader:
    def __init__(self, file: Path, name: str, text: str, raw: dict[str, Any]) -> None:
        self._file = file
        self._name = name
        self._problems: list[Problem] = []
        self._left_out: list[Problem] = []
        self._rule, self._line = "", 1
        self._top = Fields(raw, _TOP, self._say, fold=True)
        self._raw_rules = self._top.tables("rules")
        self._lines = _lines_of_rules(text, self._raw_rules)
        self._stripped: Counter[str] = Counter()
        self._betterleaks = any(key in self._top for key in ("prefilter", "filter", "betterleaksminversion"))

    def pack(self) -> Pack:
        self._extend()
        everywhere, targeted = self._global_allowlists()
        rules = self._rules(targeted)
        self._rule, self._line = "", 1
        parts = [self._expression(self._top.text(key), key) for key in ("prefilter", "filter")]
        discarded = either(parts + [each.expression for each in everywhere])
        if not self._raw_rules:
            self._say("has no rules: a gitleaks or betterleaks pack is a list of [[rules]]")
        elif not rules and not self._problems:
            self._say("has no rule that looks into documents")
        for part, number in sorted(self._stripped.items()):
            self._leave_out(f"{part!r} of {number} rules: the decoder asks no service about what it finds")
        if any(each.commits for each in everywhere):
            self._leave_out("allowlists' commits: a document has none")
        if self._problems:
            raise PackRefused(self._problems)
        return Pack(
            name=self._name,
            file=self._file,
            dialect=Dialect.BETTERLEAKS if self._betterleaks else Dialect.GITLEAKS,
            rules=tuple(rules),
            left_out=tuple(self._left_out),
            header=f"filter = {_toml(discarded)}\n\n" if discarded else "",
        )

    def _extend(self) -> None:
        if "extend" not in self._top:
            return
        extend = Fields(self._top["extend"], _EXTEND, self._say, prefix="extend: ", fold=True)
        if extend.flag("usedefault"):
            self._say("'extend' asks for gitleaks' own rules, which are not here: give them as a pack of their own")
        if extend.text("path") or extend.text("url"):
            self._say("'extend' asks for another file: give that one as a pack of its own")

    def _global_allowlists(self) -> tuple[list[Allowlist], dict[str, list[Allowlist]]]:
        everywhere: list[Allowlist] = []
        targeted: dict[str, list[Allowlist]] = {}
        for raw in self._allowlists(self._top):
            fields = Fields(raw, ALLOWLIST | {"targetrules"}, self._say, prefix="allowlist: ", fold=True)
            each = allowlist(fields, self._say)
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
            self._say("has an [allowlist] and [[allowlists]]: gitleaks takes one of them alone")
        return [fields["allowlist"]]

    def _rules(self, targeted: dict[str, list[Allowlist]]) -> list[Rule]:
        rules, seen = [], set[str]()
        for raw, line in zip(self._raw_rules, self._lines, strict=True):
            self._rule, self._line = _id_of(raw), line
            fields = Fields(raw, _RULE, self._say, fold=True)
            if problem := id_problem(self._rule, seen):
                self._say(problem)
            seen.add(self._rule)
            rule = self._read(fields, targeted.get(self._rule, []))
            if rule is not None:
                rules.append(rule)
        self._rule, self._line = "", 1
        for target in targeted.keys() - seen:
            self._say(f"allowlist: there is no rule {target!r}, which 'targetRules' names")
        known = {rule.id for rule in rules}
        for rule in rules:
            self._rule, self._line = rule.id, rule.line
            for required in rule.requires:
                if required.rule not in known:
                    self._say(f"requires the rule {required.rule!r}, which is not there")
        return rules

    def _read(self, fields: Fields, more: list[Allowlist]) -> Rule | None:
        regex, path, entropy = fields.text("regex"), fields.text("path"), fields.number("entropy")
        self._betterleaks |= any(key in fields for key in _BETTERLEAKS)
        self._stripped.update(part for part in _NETWORK if part in fields)
        allowed = [
            allowlist(Fields(raw, ALLOWLIST, self._say, prefix="allowlist: ", fold=True), self._say)
            for raw in self._allowlists(fields)
        ]
        parts = [low_entropy(entropy)] if entropy else []
        parts += [f"failsTokenEfficiency({SECRET})"] if fields.flag("tokenefficiency") else []
        parts += [each.expression for each in allowed + more]
        parts.append(self._expression(fields.text("filter"), "filter"))
        if any(each.commits for each in allowed + more):
            self._leave_out("an allowlist's commits: a document has none")
        confidence = fields.text("confidence").lower() or "medium"
        if confidence not in ("low", "medium", "high"):
            self._say(f"'confidence' is low, medium or high, not {confidence!r}")
        group = fields.whole("secretgroup") or fields.whole("valuegroup") or 0
        keywords = tuple(dict.fromkeys(word.lower() for word in fields.texts("keywords")))
        requires = self._requirements(fields)
        if not regex:
            if path:
                self._leave_out("a rule of a path alone: the decoder reports what documents hold, not that they exist")
            else:
                self._say("has neither a regex nor a path")
            return None
        engine_id = f"custom.{self._name}.{self._rule}"
        description = fields.text("description")
        given = {"id": engine_id, "description": description or self._rule, "regex": regex, "path": path}
        written = [(key, _toml(value)) for key, value in given.items() if value]
        written += [("secretGroup", str(group))] if group else []
        written.append(("confidence", _toml(confidence)))
        written += [("filter", _toml(discarded))] if (discarded := either(parts)) else []
        return Rule(
            id=self._rule,
            line=self._line,
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
            each = Fields(
                raw, frozenset(("id", "withinlines", "withincolumns")), self._say, prefix="required: ", fold=True
            )
            lines, columns = each.whole("withinlines"), each.whole("withincolumns")
            both = [None if near is None else (near, near) for near in (lines, columns)]
            found.append(Requirement(each.text("id"), *both))
        for raw in fields.tables("components"):
            each = Fields(raw, frozenset(("id", "optional", "within")), self._say, prefix="components: ", fold=True)
            near = self._within(each.text("within"))
            if not each.flag("optional"):
                found.append(Requirement(each.text("id"), near.get("L"), near.get("C")))
        return tuple(found)

    def _within(self, within: str) -> dict[str, tuple[int, int]]:
        """Of `5L`, `-5L,+2L` or `5L,100C`: how much before, and after, in lines and columns."""
        near: dict[str, tuple[int, int]] = {}
        for part in filter(None, (part.strip() for part in within.split(","))):
            if not (bound := _WITHIN.fullmatch(part)):
                self._say(f"components: 'within' is such as `5L` or `-5L,+2L`, not {part!r}")
                continue
            before, after = near.get(bound[3], (0, 0))
            size = int(bound[2])
            near[bound[3]] = (before if bound[1] == "+" else size, after if bound[1] == "-" else size)
        return near

    def _expression(self, expression: str, key: str) -> str:
        return rewritten(expression, lambda reason: self._say(f"{key}: {reason}")) if expression.strip() else ""

    def _say(self, reason: str) -> None:
        self._problems.append(Problem(self._file, self._line, self._rule, reason))

    def _leave_out(self, reason: str) -> None:
        self._left_out.append(Problem(self._file, self._line, self._rule, reason))


def _id_of(raw: object) -> str:
    found = next((value for key, value in raw.items() if key.lower() == "id"), "") if isinstance(raw, dict) else ""
    return found if isinstance(found, str) else ""


def _lines_of_rules(text: str, rules: list[object]) -> list[int]:
    """Where each rule stands: the line of its `id`, or of its [[rules]]. tomllib does not say, so the headers are counted."""
    lines = text.split("\n")
    headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
    if len(headers) != len(rules):  # written inline, or a text holds what looks like a header
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
    """A text in TOML's notation: JSON's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
