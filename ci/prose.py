"""Check the prose of files: proselint's checks, the project's own rules, and the length of sentences. The rules: `prose.toml`.

`python -m ci.prose [PATH…]` prints each finding as `file:line: message` and exits with 1 if there is one.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import proselint.checks
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from ci.passages import Passage, is_read, passages

ROOT = Path(__file__).resolve().parents[1]
_ENDS = re.compile(r"""(?<=[.!?…])['")\]]*\s+(?=['"(\[“]*[A-Z_])""")
_APART = "\n\n¶\n\n"  # between passages, so that no check of proselint reads across them


@dataclass(frozen=True, slots=True)
class Rule:
    """A phrase to avoid: its regex, what to write instead, a text that breaks the rule and one that keeps it."""

    find: re.Pattern[str]
    advice: str
    bad: str
    good: str


_SETTINGS = tomllib.loads(Path(__file__).with_name("prose.toml").read_text(encoding="utf-8"))
RULES = tuple(Rule(re.compile(rule.pop("find"), re.IGNORECASE), **rule) for rule in _SETTINGS["rule"])
LONGEST = int(_SETTINGS["longest_sentence"])
_SKIPPED, _WITHOUT_MESSAGES = tuple(_SETTINGS["skipped"]), tuple(_SETTINGS["without_messages"])
_CHECKS = dict(sorted(_SETTINGS["proselint"].items(), key=lambda item: -item[0].count(".")))
CheckRegistry().register_many(proselint.checks.__register__)


def check(path: Path) -> list[str]:
    """The findings of one file, as lines to print."""
    name = _name(path)
    try:
        found = passages(path, path.read_text(encoding="utf-8"), messages=not name.startswith(_WITHOUT_MESSAGES))
    except SyntaxError as error:
        return [f"{name}:{error.lineno}: not valid Python: {error.msg}"]
    every = [*_general(found), *(finding for passage in found for finding in _own(passage))]
    return [f"{name}:{line}: {message}" for line, message in sorted(set(every))]


def _general(found: list[Passage]) -> Iterator[tuple[int, str]]:
    """What proselint finds. It reads a file at once, which takes half as long; a line between passages keeps them apart."""
    # Two spans of code that were cut out are no repeated word.
    text = "\n¶\n".join(passage.text.replace("_", "…") for passage in found)
    lines = [line for passage in found for line in range(passage.line, passage.line + passage.text.count("\n") + 2)]
    for result, _ in LintFile("", text).lint(Config(max_errors=sys.maxsize, checks=_CHECKS)) if text else ():
        before = text[: max(result.span[0] - 1, 0)]  # it puts a line break before the text
        yield lines[before.count("\n")], f"{' '.join(result.message.split())} ({result.check_path})"


def _own(passage: Passage) -> Iterator[tuple[int, str]]:
    text = passage.text.replace("\n", " ")
    starts = [0, *(match.end() for match in _ENDS.finditer(text)), len(text)]
    found = [
        (match.start(), f'"{match[0].strip()}": write {rule.advice}')
        for rule in RULES
        for match in rule.find.finditer(text)
    ]
    for start, end in pairwise(starts):
        words = sum("_" in word or any(map(str.isalnum, word)) for word in text[start:end].split())
        if words > LONGEST:
            found.append((start, f"a sentence of {words} words: at most {LONGEST}"))
    for start, message in found:
        yield passage.line + passage.text.count("\n", 0, start), message


def _name(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def files(paths: list[Path]) -> Iterator[Path]:
    """The files to check below these paths."""
    for path in paths:
        if path.is_dir():
            if path.name != "__pycache__" and not f"{_name(path)}/".startswith(_SKIPPED):
                yield from files(sorted(path.iterdir()))
        elif is_read(path) and not _name(path).startswith(_SKIPPED):
            yield path


def main(arguments: list[str]) -> int:
    """Check the files below the paths, by default the whole repository."""
    chosen = list(files([Path(argument) for argument in arguments] or [ROOT]))
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4), get_context("spawn")) as pool:
        lines = [line for found in pool.map(check, chosen, chunksize=16) for line in found]
    print("\n".join([*lines, f"files: {len(chosen)}, findings: {len(lines)}"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
