"""Tries a pack in the engine: names each rule that the engine does not load, and tests the rules' examples.

The engine's errors name no line, and mostly neither a rule nor a cause. So if the rules fail together, each is tried by itself, and a rule
that fails is tried without its parts. An expression that fails during evaluation fails the whole document, so each is evaluated here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from worker.extract.packs.loading import load
from worker.extract.packs.model import Dialect, Pack, PackRefused, Problem, Rule
from worker.extract.packs.reports import Report

# Parts that a rule is tried without, and the reason if it then loads.
_PARTS = {
    "secretGroup": "the regex does not have the group that 'secretGroup' names",
    "filter": "the engine rejects its filter or allowlist",
    "path": "the engine rejects its 'path'",
    "pattern_requirements": "the engine rejects its 'pattern_requirements'",
    "depends_on_rule": "the engine rejects its 'depends_on_rule'",
}
# Regex syntax that the engine does not support; Go's or Kingfisher's documentation has some of it.
_FOREIGN = (
    (r"\(\?<?[=!]", "look-ahead or look-behind"),
    (r"\\[1-9]", "back-references"),
    (r"\\Q", r"\Q…\E"),
    (r"\\[pP]", r"Unicode classes (\p), because it reads bytes"),
    (r"\\C", r"\C"),
    (r"\(\?[a-z]*U", "flag U"),
    (r"\[[^\]]*[^\x00-\x7f][^\]]*\]", "non-ASCII characters in a class, because it reads bytes"),
)
# The trial's own rule matches these, so that filters are evaluated on low and high entropy, short and long values.
_TRIAL = r"decoder-trial=(\w+)"
_TRIALS = "\n".join(
    f"decoder-trial={value}" for value in ("aaab", "a1B2c3D4e5F6g7H8", "kT93xQ7wLz0PbN5vRm2YcJ8dUe4H" * 2)
)


@dataclass(frozen=True, slots=True)
class Tested:
    """The result of testing a pack's examples.

    Args:
        rules: the number of rules with examples.
        examples: the number of all examples.
        failures: examples that must match and do not, or must not match and do.
    """

    rules: int
    examples: int
    failures: tuple[Problem, ...]


def check(file: Path, cache_dir: Path | None = None) -> tuple[Pack | None, tuple[Problem, ...]]:
    """Check a pack. Returns the pack (None if its file is refused) and all problems: those of the file, or else the engine's.

    Args:
        file: the pack's file.
        cache_dir: as for `unloadable`.
    """
    try:
        pack = load(file)
    except PackRefused as refusal:
        return None, refusal.problems
    return pack, unloadable(pack, cache_dir)


def unloadable(pack: Pack, cache_dir: Path | None = None) -> tuple[Problem, ...]:
    """Each rule that the engine rejects, with the reason; empty if it accepts the pack.

    Args:
        pack: a pack whose file has no problems.
        cache_dir: the engine's cache of compiled rules. Compiling a pack of 400 rules takes seconds; a cached one loads at once.
    """
    with tempfile.TemporaryDirectory(prefix="decoder-rules-") as folder:
        engine = _Engine(pack, Path(folder), cache_dir)
        if engine.error(pack.rules) is None and engine.filter_error(pack.rules) is None:
            return ()
        first = pack.rules[0]
        bare = replace(
            first,
            fields=(*(field for field in first.fields if field[0] in ("id", "description")), ("regex", '"trial"')),
        )
        if pack.header and (error := engine.error([bare]) or engine.filter_error([bare])):
            reason = f"the engine rejects the filter or allowlist of all rules ({error})"
            return (Problem(pack.file, 1, "", reason),)
        reasons = [(rule, engine.reason(rule)) for rule in pack.rules]
        problems = [Problem(pack.file, rule.line, rule.id, reason) for rule, reason in reasons if reason]
        # Each rule loads by itself, so only all of them together are too large.
        return tuple(problems) or (
            Problem(pack.file, 1, "", f"the engine does not load the pack: {engine.error(pack.rules)}"),
        )


def filters_fail(pack: Pack, cache_dir: Path) -> bool:
    """Whether a pack that loads has a filter that fails during evaluation. Such a pack cannot search any document."""
    with tempfile.TemporaryDirectory(prefix="decoder-rules-") as folder:
        return _Engine(pack, Path(folder), cache_dir).filter_error(pack.rules) is not None


def examples(pack: Pack) -> Tested:
    """Test each rule's examples, without its path and required rules, since an example has neither."""
    failures: list[Problem] = []
    tried = [rule for rule in pack.rules if rule.examples or rule.negative_examples]
    with tempfile.TemporaryDirectory(prefix="decoder-rules-") as folder:
        engine = _Engine(pack, Path(folder))
        for rule in tried:
            alone = replace(rule.without("path", "depends_on_rule"), requires=(), reported=True)
            for must, given in ((True, rule.examples), (False, rule.negative_examples)):
                said = "example {} must match, but does not" if must else "negative example {} must not match, but does"
                for number, example in enumerate(given, 1):
                    if engine.finds([alone], example) != must:
                        failures.append(Problem(pack.file, rule.line, rule.id, said.format(number)))
    number = sum(len(rule.examples) + len(rule.negative_examples) for rule in tried)
    return Tested(len(tried), number, tuple(failures))


class _Engine:
    """The engine with some of a pack's rules, loaded from a file in a private folder."""

    def __init__(self, pack: Pack, folder: Path, cache_dir: Path | None = None) -> None:
        self._pack = pack
        self._folder = folder
        self._cache_dir = cache_dir

    def finds(self, rules: Iterable[Rule], text: str) -> bool:
        """Whether these rules report something in a text."""
        from kingfisher_sdk import Rules, Scanner  # not every platform has a wheel of it

        rules = list(rules)
        file = self._pack.write(self._folder, rules)
        # A single rule compiles quickly, and is not worth a cache file.
        cache = self._cache_dir if len(rules) > 1 else None
        loaded = Rules([file], builtins=False, confidence="low", cache=cache is not None, cache_dir=cache)
        found = Scanner(loaded, base64=False).scan(text.encode("utf-8", "replace"))
        report, by_id = Report(rules, text), {rule.engine_id: rule for rule in rules}
        return any(report.counts(by_id[each.rule_id], 0) for each in found)

    def error(self, rules: Iterable[Rule], text: str = "") -> str | None:
        """Why the engine does not load these rules, or does not scan a text with them; None if it does."""
        try:
            self.finds(rules, text)
        except Exception as error:  # noqa: BLE001  # the engine may raise any exception
            return self._said(error)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # an engine panic is not an Exception
                raise
            return "the engine crashes"
        return None

    def filter_error(self, rules: Iterable[Rule]) -> str | None:
        """Why filters fail during evaluation; None if they do not. Only betterleaks' filters are written by hand."""
        if self._pack.dialect is not Dialect.BETTERLEAKS:
            return None
        return self.error([_on_trial(rule) for rule in rules], _TRIALS)

    def reason(self, rule: Rule) -> str | None:
        """Why one rule fails, for its author; None if it does not."""
        error = self.error([rule])
        if error is None:
            failed = self.filter_error([rule])
            return failed and f"its filter fails: {failed}"
        for part, reason in _PARTS.items():
            if rule.without(part) != rule and self.error([rule.without(part)]) is None:
                return reason
        for foreign, what in _FOREIGN:
            if re.search(foreign, rule.regex):
                return f"the engine's regexes have no {what}"
        if "empty buffer" in error:
            return "the regex matches an empty text"
        return f"the engine rejects the regex ({error})"

    def _said(self, error: Exception) -> str:
        said = str(error).replace(f"{self._folder}/", "")
        return said.rpartition("candidate-prefilter mode: ")[2].split("\n")[0][:200]


def _on_trial(rule: Rule) -> Rule:
    """A rule's filter on a regex that matches the trial's document."""
    kept = [(name, value) for name, value in rule.fields if name in ("id", "description", "filter")]
    return replace(rule, fields=(*kept, ("regex", f"'{_TRIAL}'")))
