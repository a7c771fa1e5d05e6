"""gitleaks' allowlists as filter expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.extract.packs.expressions import SECRET, contains_any, matches_any, path_matches
from worker.extract.packs.fields import Fields

ALLOWLIST = "description condition commits paths regextarget regexes stopwords"
_TARGETS = {"": SECRET, "secret": SECRET, "match": 'finding["match"]', "line": 'finding["line"]'}
_CONDITIONS = {"": " || ", "OR": " || ", "||": " || ", "AND": " && ", "&&": " && "}


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What is no finding.

    Args:
        expression: true for what is allowed; "" where nothing can be.
        commits: it names commits, which documents do not have.
    """

    expression: str
    commits: bool


def allowlist(fields: Fields, say: Callable[[str], None]) -> Allowlist:
    """One allowlist. gitleaks allows what one of its checks allows, or all of them with `condition = "AND"`.

    Args:
        fields: its table.
        say: takes what is wrong.
    """
    regexes, stopwords, paths = fields.texts("regexes"), fields.texts("stopwords"), fields.texts("paths")
    commits = bool(fields.texts("commits"))
    condition, target = fields.text("condition").upper(), fields.text("regextarget")
    if condition not in _CONDITIONS:
        say(f"allowlist: 'condition' is AND or OR, not {condition!r}")
    if target not in _TARGETS:
        say(f"allowlist: 'regexTarget' is secret, match or line, not {target!r}")
    if not (regexes or stopwords or paths or commits):
        say("allowlist: needs one of regexes, stopwords, paths or commits")
    joint = _CONDITIONS.get(condition, " || ")
    if commits and joint == " && ":  # a document is of no commit, so not all of the checks can hold
        return Allowlist("", commits)
    checks = [path_matches(paths)] if paths else []
    checks += [matches_any(_TARGETS.get(target, SECRET), regexes)] if regexes else []
    checks += [contains_any(SECRET, stopwords)] if stopwords else []
    return Allowlist(joint.join(checks), commits)
