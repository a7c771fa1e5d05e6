"""Loads packs from files in any of the three formats."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from worker.extract.packs import leaks
from worker.extract.packs.model import Pack, PackRefused, Problem
from worker.extract.packs.source import name_of, read, refused

# No two parts may match the same line breaks: a file of nothing but line breaks would take forever.
_TOML = re.compile(r"^[^\S\n]*(?:\[\[?[^\S\n]*[\w.-]+[^\S\n]*\]|[\w.\"'-]+[^\S\n]*=)", re.MULTILINE)
_YAML = re.compile(r"""(?:---.*\n|[^\S\n]*(?:\#.*)?\n)*[^\S\n]*(?:(?:\{\s*)?["']?rules["']?\s*:|-\s)""")


def load(file: Path) -> Pack:
    """Load a pack. Its content decides the format, not its name.

    Raises:
        PackRefused: with all problems of the file.
    """
    name, text = name_of(file), read(file)
    if _YAML.match(text):
        try:
            from worker.extract.packs import kingfisher
        except ModuleNotFoundError:
            raise refused(file, "YAML needs the package pyyaml: pip install 'mission-decoder[rules]'") from None
        return kingfisher.parse(file, name, text)
    if _TOML.search(text):
        return leaks.parse(file, name, text)
    raise refused(file, "is not a rule pack: neither gitleaks' or betterleaks' TOML nor Kingfisher's YAML")


def load_all(files: Iterable[Path]) -> tuple[Pack, ...]:
    """Load several packs.

    Raises:
        PackRefused: with all problems of all files, including two packs with the same name.
    """
    packs: dict[str, Pack] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            pack = load(file)
        except PackRefused as refusal:
            problems += refusal.problems
            continue
        if pack.name in packs:
            problems.append(Problem(file, 1, "", f"has the same name as {packs[pack.name].file}: rename one of them"))
        packs[pack.name] = pack
    if problems:
        raise PackRefused(problems)
    return tuple(packs.values())
