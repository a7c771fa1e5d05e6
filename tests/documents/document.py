"""A Markdown document as its commands: its sections, the blocks of commands in them, and the expected output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "RUNBOOK.md"
OPERATIONS = ROOT / "docs/operations.md"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*) *(?P<tag>\w*)$")
# A command in a list: `- **Check** `COMMAND` → `PATTERN`. What else there is to say.` The commands of a section with one label are one block.
_LISTED = re.compile(r"^ *- \*\*(?P<label>Run|Check|Do)\*\* `(?P<line>[^`]+)`(?: → `(?P<shows>[^`]+)`)?")
_TAGS = {"Run": "", "Check": "confirm", "Do": "fix"}
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


def blocks(*documents: Path) -> list[Block]:
    """All blocks of these documents, in their order; without a document, those of the runbook and of docs/operations.md."""
    return [
        block
        for document in documents or (RUNBOOK, OPERATIONS)
        for block in _blocks(document.read_text(encoding="utf-8").splitlines())
    ]


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
    section, listed = "", dict[str, Block]()
    numbered = iter(enumerate([*lines, "# "], 1))  # an empty heading ends the last section
    for number, line in numbered:
        if match := _HEADING.match(line):
            yield from listed.values()
            section, listed = match[2], {}
        elif item := _LISTED.match(line):
            tag = _TAGS[item["label"]]
            block = listed.get(tag, Block(section, "sh", tag, (), number))
            command = Command(item["line"], (_pattern(item["shows"]),) if item["shows"] else ())
            listed[tag] = replace(block, commands=(*block.commands, command))
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
