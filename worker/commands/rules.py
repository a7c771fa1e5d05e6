"""`decoder rules`: lists the rules that find secrets; checks and tests rule files before a worker loads them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mission.cli.console import emit_json, emit_records, fail, json_option, note, say
from mission.cli.help import Group
from worker.extract import packs
from worker.extract.catalog import Listed, catalog
from worker.extract.packs import trial
from worker.settings import WorkerSettings

_READS = ("detectors", "rules", "rules_cache")
_LABELS = {
    "id": "id",
    "detector": "detector",
    "confidence": "confidence",
    "description": "description",
    "regex": "regex",
    "path": "path",
    "keywords": "keyword",
    "entropy": "entropy above",
    "filter": "discarded if",
    "requires": "requires",
    "examples": "matches",
    "negative_examples": "matches not",
}
_file = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))


@click.group(cls=Group)
def rules() -> None:
    """List the rules that find secrets; check and test rule files.

    \b
    Example:
      decoder rules list github
      decoder rules check team.toml
    """


@rules.command("list", settings=WorkerSettings, reads=_READS)
@click.argument("text", required=False)
@json_option
def list_(text: str | None, as_json: bool) -> None:
    """Print all rules, or those that contain a text.

    The text is looked for in their id, detector and description.

    \b
    Example:
      decoder rules list
      decoder rules list --json github
    """
    wanted = (text or "").casefold()
    rows = [
        {"id": each.id, "detector": each.detector, "confidence": each.confidence, "description": each.description}
        for each in _all()
        if any(wanted in part.casefold() for part in (each.id, each.detector, each.description))
    ]
    emit_records(rows, as_json=as_json, none="no matching rule")


@rules.command(settings=WorkerSettings, reads=_READS)
@click.argument("rule", metavar="ID")
@json_option
def show(rule: str, as_json: bool) -> None:
    """Print one rule in full: its patterns and its filters.

    \b
    Example:
      decoder rules show github-pat
    """
    found = [each for each in _all() if each.id == rule]
    if not found:
        fail(f"no rule {rule!r}: `decoder rules list` prints all rules", code=1)
    for each in found:
        if as_json:
            emit_json(asdict(each))
        else:
            say(*_lines(each))


@rules.command(settings=WorkerSettings, reads=("rules_cache",))
@_file
@json_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Report errors in rule files.

    A worker does not start with a rule file that has errors. Prints a line for each error: file, line, rule, reason. Reads gitleaks TOML, betterleaks TOML and Kingfisher YAML. The exit code
    is 1 if there is an error. A note names each feature of a file that the decoder ignores.

    \b
    Example:
      decoder rules check team.toml
    """
    cache = WorkerSettings.from_env().looks_for.cache
    wrong = 0
    for file in files:
        pack, problems = trial.check(file, cache)
        wrong += _told(problems, as_json=as_json)
        if pack:
            for part in pack.left_out:
                note(f"ignored: {part}")
            if not problems and not as_json:
                number = len(pack.rules)
                say(f"{file}: {number} rule{'s' * (number != 1)} in {pack.dialect.value}'s format, no errors")
    sys.exit(1 if wrong else 0)


@rules.command()
@_file
@json_option
def test(files: tuple[Path, ...], as_json: bool) -> None:
    """Test rules against the examples in their files.

    A rule must match its `examples` and must not match its `negative_examples`. The exit code is 1 if an example fails or a file has an
    error.

    \b
    Example:
      decoder rules test team.toml
    """
    wrong = 0
    for file in files:
        pack, problems = trial.check(file)
        wrong += _told(problems, as_json=as_json)
        if problems or not pack:
            continue
        tested = trial.examples(pack)
        wrong += _told(tested.failures, as_json=as_json)
        if not as_json:
            held = tested.examples - len(tested.failures)
            say(
                f"{file}: {held} of {tested.examples} examples pass; {tested.rules} of {len(pack.rules)} rules have examples"
            )
    sys.exit(1 if wrong else 0)


def _all() -> Iterable[Listed]:
    return catalog(WorkerSettings.from_env().looks_for)


def _told(problems: Sequence[packs.Problem], *, as_json: bool) -> int:
    for each in problems:
        if as_json:
            emit_json({"file": str(each.file), "line": each.line, "rule": each.rule, "reason": each.reason})
        else:
            say(str(each))
    return len(problems)


def _lines(rule: Listed) -> Iterable[str]:
    fields: dict[str, Any] = asdict(rule)
    for name, label in _LABELS.items():
        value = fields[name]
        for item in value if isinstance(value, (list, tuple)) else [value] if value else []:
            yield f"{label:<14} {item}"
