"""gitleaks' allowlists as filter expressions."""

from __future__ import annotations

from worker.extract.packs.expressions import SECRET, contains_any, matches_any, path_matches
from worker.extract.packs.fields import Fields, Reading

ALLOWLIST = "description condition commits paths regextarget regexes stopwords"
_TARGETS = {"": SECRET, "secret": SECRET, "match": 'finding["match"]', "line": 'finding["line"]'}
_CONDITIONS = {"": " || ", "OR": " || ", "||": " || ", "AND": " && ", "&&": " && "}


def allowlist(fields: Fields, reading: Reading) -> str:
    """An expression that is true for every finding that an allowlist allows; "" if it can allow none.

    In gitleaks one of the checks must allow the finding; with `condition = "AND"`, all must.

    Args:
        fields: the allowlist's table.
        reading: receives its problems.
    """
    regexes, stopwords, paths = fields.texts("regexes"), fields.texts("stopwords"), fields.texts("paths")
    commits = bool(fields.texts("commits"))
    condition, target = fields.text("condition").upper(), fields.text("regextarget")
    if condition not in _CONDITIONS:
        reading.say(f"allowlist: 'condition' must be AND or OR, not {condition!r}")
    if target not in _TARGETS:
        reading.say(f"allowlist: 'regexTarget' must be secret, match or line, not {target!r}")
    if not (regexes or stopwords or paths or commits):
        reading.say("allowlist: needs one of regexes, stopwords, paths or commits")
    joint = _CONDITIONS.get(condition, " || ")
    if commits:
        reading.leave_out("an allowlist's commits: a document has none")
        if joint == " && ":  # the commits check never holds, so not all can
            return ""
    checks = [path_matches(paths)] if paths else []
    checks += [matches_any(_TARGETS.get(target, SECRET), regexes)] if regexes else []
    checks += [contains_any(SECRET, stopwords)] if stopwords else []
    return joint.join(checks)
