"""A pack as the worker uses it, but also with a path, like a file or an archive member."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from kingfisher_sdk import Rules, Scanner
from kingfisher_sdk.inputs import ScanInput

from mission.model import Confidence, Cut
from worker.extract.engine import Match
from worker.extract.packs import Pack, PackRefused, PackScanner, Problem, load


class _Engine:
    """The matches of `RuleScanner`, with a path."""

    cached = False

    def __init__(self, rules: Rules) -> None:
        self.path = ""
        self._scanner = Scanner(rules, base64=False)

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]:
        for found in self._scanner.scan_input(ScanInput(data=text.encode(), path=self.path)):
            start, end = found.location["start_offset"], found.location["end_offset"]
            category = found.rule_id.removeprefix("custom.")
            yield Match(category, found.secret, start, end, Confidence(found.confidence))


class Loaded:
    """A pack in the engine."""

    def __init__(self, pack: Pack, folder: Path, cache: Path | None = None) -> None:
        self.pack = pack
        file = pack.write(folder)
        self.rules = Rules([file], builtins=False, confidence="low", cache=cache is not None, cache_dir=cache)
        self._engine = _Engine(self.rules)
        self._scanner = PackScanner(pack, self._engine)

    def scan(self, text: str, path: str = "") -> set[tuple[str, str]]:
        """The rules that match in a document, with their secrets."""
        self._engine.path = path
        return {(match.category, match.value) for match in self._scanner.matches(text, time.monotonic() + 60, set())}


def loaded(folder: Path, text: str, name: str = "mine.toml") -> Loaded:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return Loaded(load(file), folder)


def lint(file: Path) -> tuple[Problem, ...]:
    """The problems of a pack's file."""
    try:
        load(file)
    except PackRefused as refusal:
        return refusal.problems
    return ()
