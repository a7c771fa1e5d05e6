"""Which jobs a pipeline has: GitLab's `rules`, as far as this project uses them, evaluated.

https://docs.gitlab.com/ci/jobs/job_rules/ : the first rule that matches decides; without a match the pipeline lacks the job.
Of expressions: `==`, `!=`, `=~` with a pattern or a variable, a variable alone, `&&` before `||`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Variables = Mapping[str, str]
Pipeline = dict[str, Any]

_KEYWORDS = {"stages", "workflow", "variables", "default", "include"}


@dataclass(frozen=True, slots=True)
class Planned:
    """A job in a pipeline: when it runs, and whether the pipeline waits for it."""

    when: str
    blocks: bool


def load(text: str) -> Pipeline:
    """The pipeline file, anchors resolved."""
    pipeline: Pipeline = yaml.safe_load(text)
    return pipeline


def jobs(pipeline: Pipeline) -> dict[str, Any]:
    """The jobs by name, hidden ones left out."""
    return {name: job for name, job in pipeline.items() if name not in _KEYWORDS and not name.startswith(".")}


def plan(pipeline: Pipeline, variables: Variables) -> dict[str, Planned]:
    """The jobs of the pipeline that these variables start; empty if the workflow prevents it."""
    if _first(pipeline["workflow"]["rules"], variables) is None:
        return {}
    planned = {}
    for name, job in jobs(pipeline).items():
        rule = _first(job["rules"], variables)
        if rule is not None and (when := rule.get("when", job.get("when", "on_success"))) != "never":
            planned[name] = Planned(when, blocks=not rule.get("allow_failure", job.get("allow_failure", False)))
    return planned


def needs(job: Any) -> set[str]:
    """The jobs that a job waits for, optional ones included."""
    return {need if isinstance(need, str) else need["job"] for need in job["needs"]}


def holds(expression: str, variables: Variables) -> bool:
    """Whether an `if` is true."""
    return any(all(_term(term.strip(), variables) for term in part.split("&&")) for part in expression.split("||"))


def _first(rules: list[Any], variables: Variables) -> Any:
    return next((rule for rule in rules if "if" not in rule or holds(rule["if"], variables)), None)


def _term(term: str, variables: Variables) -> bool:
    match = re.fullmatch(r"(\S+)(?: (==|!=|=~) (.+))?", term)
    if match is None:
        raise ValueError(f"not understood: {term}")
    left, operator, right = match.groups()
    value = _value(left, variables)
    if operator is None:
        return bool(value)
    if operator == "=~":
        return value is not None and re.search(right.removeprefix("/").removesuffix("/"), value) is not None
    return (value == _value(right, variables)) is (operator == "==")


def _value(text: str, variables: Variables) -> str | None:
    if text.startswith("$"):
        return variables.get(text[1:])
    return None if text == "null" else text.strip("\"'")
