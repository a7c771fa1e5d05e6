"""A Markdown document as its commands: its sections, the blocks of commands in them, and the expected output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "RUNBOOK.md"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*) *(?P<tag>\w*)$")
_HEADING = re.compile(r"^(#{1,4}) (.*)$")
_SHOWS = "# shows: "


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and patterns that its output must match."""

    line: str
    shows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Commands for one shell. The tag gives their purpose: `confirm`, `fix`, `setup`, `yours` or empty."""

    section: str
    language: str
    tag: str
    commands: tuple[Command, ...]
    number: int

    @property
    def name(self) -> str:
        """Its name in test reports."""
        return f"{self.section}-{self.tag or 'block'}-line-{self.number}"


def blocks(document: Path = RUNBOOK) -> list[Block]:
    """All fenced blocks of a document, in order."""
    return list(_blocks(document.read_text(encoding="utf-8").splitlines()))


def headings(document: Path) -> list[str]:
    """The headings of a document outside fences, in order."""
    found, fenced = [], False
    for line in document.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and (match := _HEADING.match(line)):
            found.append(match[2])
    return found


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitLab and GitHub generate it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _blocks(lines: list[str]) -> Iterator[Block]:
    section = ""
    numbered = iter(enumerate(lines, 1))
    for number, line in numbered:
        if match := _HEADING.match(line):
            section = match[2]
        elif fence := _FENCE.match(line):
            inside = []
            for _, text in numbered:
                if text.strip() == "```":
                    break
                inside.append(text.removeprefix(fence["indent"]))
            yield Block(section, fence["language"], fence["tag"], tuple(_commands(inside)), number)


def _commands(lines: list[str]) -> Iterator[Command]:
    line, shows = "", list[str]()
    for text in [*lines, ""]:
        text = text.removeprefix("$ ")
        if text.startswith(_SHOWS):
            shows.append(_pattern(text.removeprefix(_SHOWS)))
            continue
        if line:
            yield Command(line, tuple(shows))
        line, shows = text, []


def _pattern(text: str) -> str:
    """A regular expression: `…` matches anything, `N` a number that is not 0, `|` either."""
    escaped = "|".join(".*".join(map(re.escape, option.split(" … "))) for option in text.split("|"))
    return re.sub(r"\bN\b", r"[1-9]\\d*", escaped)
