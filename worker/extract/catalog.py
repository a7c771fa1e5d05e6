"""The rules of all detectors in one readable form.

Rules of the engine's catalog also have parts that ask a service about a credential, or revoke it. This module never reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mission.errors import SettingsError
from worker.extract import packs
from worker.extract.detectors import GENERIC, GENERIC_RULES, NO_ENGINE, PROVIDER, Detectors, engine_installed
from worker.extract.engine import SECRET_PARTS, category_of


@dataclass(frozen=True, slots=True)
class Listed:
    """One rule.

    Attributes:
        id: the category of its findings.
        detector: the detector that the rule belongs to.
        confidence: of its findings.
        description: by its author.
        regex: the pattern that it searches for.
        path: a regex that the document's path must match; empty if any path may.
        keywords: if there are any, the document must contain one of them.
        filter: an expression that discards findings; empty if there is none.
        requires: rules that must also find something.
        entropy: bits per character that a value must have.
        examples: texts that must match.
        negative_examples: texts that must not match.
    """

    id: str
    detector: str
    confidence: str
    description: str
    regex: str
    path: str = ""
    keywords: Sequence[str] = ()
    filter: str = ""
    requires: Sequence[str] = ()
    entropy: float = 0.0
    examples: Sequence[str] = ()
    negative_examples: Sequence[str] = ()


def catalog(detectors: Detectors) -> Iterator[Listed]:
    """All rules that report findings, by detector in order of rank. Markers have no rules.

    Raises:
        SettingsError: the engine is missing, or a rule file has a problem.
    """
    if not engine_installed():
        raise SettingsError(NO_ENGINE)
    if PROVIDER in detectors.names:
        yield from _engines(PROVIDER, detectors.cache, [])
    for pack in packs.load_all(detectors.rules):
        yield from _packs(pack)
    if GENERIC in detectors.names:
        yield from _engines(GENERIC, detectors.cache, [GENERIC_RULES])


def _engines(detector: str, cache: Path, files: list[Path]) -> Iterator[Listed]:
    from kingfisher_sdk import Rules  # not every platform has a wheel of it

    try:
        rules = Rules(files, builtins=not files, confidence="low", cache_dir=cache)
    except (ValueError, OSError, RuntimeError) as error:
        raise SettingsError(f"the rules of {detector} cannot be loaded: {error}") from None
    for each in sorted(rules.metadata(), key=lambda each: category_of(each["id"])):
        if each["visible"] or each["id"] in SECRET_PARTS:
            detail = rules.detail(each["id"])
            requirements = detail["pattern_requirements"]
            yield Listed(
                id=category_of(each["id"]),
                detector=detector,
                confidence=str(detail["confidence"]),
                description=str(detail["name"]),
                regex=str(detail["pattern"]),
                path=detail["path"] or "",
                filter=" ".join(
                    [
                        *([expression(detail["betterleaks_filter"])] if detail["betterleaks_filter"] else []),
                        *([json.dumps(requirements)] if requirements else []),
                    ]
                ),
                requires=[category_of(str(other["rule_id"])) for other in detail["depends_on_rule"] if other],
                entropy=float(detail["min_entropy"]),
                examples=detail["examples"],
                negative_examples=detail["negative_examples"],
            )


def _packs(pack: packs.Pack) -> Iterator[Listed]:
    for rule in pack.rules:
        if rule.reported:
            given = dict(rule.fields)
            yield Listed(
                id=rule.id,
                detector=f"pack:{pack.name}",
                confidence=rule.confidence,
                description=rule.description,
                regex=rule.regex,
                path=_text(given.get("path", "")),
                keywords=rule.keywords,
                filter=_text(given.get("filter") or given.get("pattern_requirements", "")),
                requires=[required.rule for required in rule.requires],
                entropy=float(given.get("min_entropy", 0)),
                examples=rule.examples,
                negative_examples=rule.negative_examples,
            )


def _text(written: str) -> str:
    """The content of a field that is a string in JSON or TOML; other fields unchanged."""
    try:
        read = json.loads(written)
    except ValueError:
        return written
    return read if isinstance(read, str) else written


def expression(node: Any) -> str:
    """One of the engine's filters, in the syntax that it was written in."""
    match node:
        case {"kind": "binary", "operator": operator, "left": left, "right": right}:
            return f"({expression(left)} {operator} {expression(right)})"
        case {"kind": "unary", "operator": operator, "node": inner}:
            return f"{operator} {expression(inner)}"
        case {"kind": "call", "callee": callee, "arguments": arguments}:
            return f"{expression(callee)}({', '.join(map(expression, arguments))})"
        case {"kind": "member", "node": inner, "property": name}:
            return f"{expression(inner)}[{expression(name)}]"
        case {"kind": "array", "nodes": nodes}:
            return f"[{', '.join(map(expression, nodes))}]"
        case {"kind": "conditional", "cond": condition, "exp1": one, "exp2": other}:
            return f"({expression(condition)} ? {expression(one)} : {expression(other)})"
        case {"kind": "slice", "node": inner, "from": start, "to": end}:
            bounds = ":".join("" if bound is None else expression(bound) for bound in (start, end))
            return f"{expression(inner)}[{bounds}]"
        case {"kind": "variable_declarator", "name": name, "value": value, "expr": then}:
            return f"let {name} = {expression(value)}; {expression(then)}"
        case {"kind": "identifier", "value": value}:
            return str(value)
        case {"kind": _, "value": value}:
            return json.dumps(value, ensure_ascii=False)
        case _:
            return json.dumps(node, ensure_ascii=False)
