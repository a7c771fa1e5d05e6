"""Find the prose in a file: its paragraphs, comments, docstrings and messages, each with the line where it starts.

Code is left out: blocks, spans in backquotes, targets of links, placeholders. A span that is cut out leaves `_`, which counts as a word.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_STARTS = re.compile(r"^(?:[-*+•]|\d+[.)]|#+|>)\s")  # a list item, a heading, a quotation
_FIELD = re.compile(r"\*{0,2}\w+(?:, \w+)*:(?:\s|$)")  # in a docstring: a section's name, an argument
_DIRECTIVE = re.compile(
    r"^(?:noqa|nosec|nosemgrep|type: ignore|pragma|fmt|ruff|mypy|shellcheck|hadolint|syntax=|!/)\S*(?:[^(]*$)?"
)
_CODE = re.compile(r"(`+)(?:(?!\1).)+\1|\w+://\S+|\{\{.*?\}\}", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])")
_MARKUP = re.compile(r"<!--.*?-->|</?\w[^<>]*>|\*\*|(?<!\w)[*_](?=\w)|(?<=[\w.])\*(?!\w)", re.DOTALL)
_HASHES = re.compile(r"""^(?P<before>(?:[^"'#]|"[^"]*"|'[^']*')*?)(?:^|(?<=\s))#+\s(?P<text>.*)$""")
_SLASHES = re.compile(r"^(?P<before>.*?)(?:^|(?<=\s))(?:--|//)\s(?P<text>.*)$")
_VALUE = re.compile(r"""^(?P<indent>\s*)(?:- )?"?(?:summary|description|title)"?:\s*(?P<value>\S.*?),?\s*$""")
_WORD = re.compile(r"[A-Za-z][a-z'-]*[,.;:?!)]*|_")

Lines = Iterable[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph, list item, table cell, comment, docstring's paragraph or message; `line` counts from 1."""

    line: int
    text: str


def passages(path: Path, text: str, *, messages: bool = True) -> list[Passage]:
    """The prose of one file, in order. `messages`: of Python also the string constants that look like sentences.

    Raises:
        SyntaxError: a Python file cannot be parsed.
    """
    if path.suffix == ".py":
        found = [*_strings(text, messages=messages), *_comments(text)]
    else:
        found = [passage for reader in _readers(path) for passage in reader(text)]
    return sorted(found, key=lambda passage: passage.line)


def is_read(path: Path) -> bool:
    """Whether the file is of a kind that holds prose."""
    return path.suffix == ".py" or bool(_readers(path))


def paragraphs(lines: Lines, *, docstring: bool = False) -> Iterator[Passage]:
    """Join lines to passages as Markdown does; a table's cell and a docstring's field are passages as well."""
    block: list[tuple[int, str]] = []
    fenced = verbatim = False
    for number, line in [*lines, (0, "")]:
        text = line.strip(" \t")
        fence = text.startswith(("```", "~~~"))
        fenced ^= fence
        verbatim = text == "\b" or (verbatim and bool(text))  # click's mark, up to an empty line
        skipped = fence or fenced or verbatim or not text
        starts = skipped or text.startswith("|") or _STARTS.match(text) or (docstring and _FIELD.match(text))
        if block and (starts or block[-1][1].startswith("#") or number != block[-1][0] + 1):
            yield _passage(block[0][0], "\n".join(part for _, part in block))
            block = []
        if text.startswith("|") and not skipped:
            yield from (_passage(number, cell.strip()) for cell in re.split(r"(?<!\\)\|", text) if cell.strip())
        elif not skipped:
            block.append((number, text if text.startswith("#") else _STARTS.sub("", text, count=1)))


def _passage(line: int, text: str) -> Passage:
    text = _LINK.sub(lambda match: match[1] + "\n" * match[2].count("\n"), text)
    text = _CODE.sub(lambda match: "_" + "\n" * match[0].count("\n"), text)
    return Passage(line, _MARKUP.sub(lambda match: "\n" * match[0].count("\n"), text))


def _markdown(text: str) -> Iterator[Passage]:
    lines = []
    code = listed = False
    blank = True
    for number, line in _numbered(text):
        code = line.startswith("    ") and (code or (blank and not listed))
        blank = not line.strip()
        if not (blank or line.startswith(" ")):
            listed = bool(_STARTS.match(line))
        lines.append((number, "" if code else line))
    yield from paragraphs(lines)


def _comments_behind(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Passage]]:
    def read(text: str) -> Iterator[Passage]:
        found = ((number, pattern.match(line)) for number, line in _numbered(text))
        return _joined((number, match["before"], match["text"]) for number, match in found if match)

    return read


def _joined(comments: Iterable[tuple[int, str, str]]) -> Iterator[Passage]:
    """Comments as passages. Those on lines of their own are joined; one behind code is a passage by itself."""
    run: list[tuple[int, str]] = []
    column = ""
    for number, before, text in comments:
        if before.strip() or before != column:
            yield from paragraphs(run)
            run = []
        run.append((number, _DIRECTIVE.sub("", text)))
        column = before
    yield from paragraphs(run)


def _values(text: str) -> Iterator[Passage]:
    """Titles, summaries and descriptions in YAML and JSON, with the lines of a folded one."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not (match := _VALUE.match(line)):
            continue
        value, depth = match["value"], len(match["indent"])
        if re.fullmatch(r"[>|][+-]?", value):
            inner = lines[number:]
            end = next(
                (at for at, line in enumerate(inner) if line.strip() and len(line) - len(line.lstrip()) <= depth),
                len(inner),
            )
            yield from paragraphs(enumerate(inner[:end], number + 1))
        elif " " in value:
            yield _passage(
                number, json.loads(value) if re.fullmatch(r'"(?:[^"\\]|\\.)*"', value) else value.strip("'\"")
            )


def _comments(text: str) -> Iterator[Passage]:
    found = (token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT)
    yield from _joined((token.start[0], token.line[: token.start[1]], token.string.lstrip("#:")[1:]) for token in found)


def _strings(text: str, *, messages: bool) -> Iterator[Passage]:
    """Docstrings, and other strings that look like sentences; in an f-string each value is one word."""
    nodes = list(ast.walk(ast.parse(text)))
    docstrings = {id(node.body[0].value) for node in nodes if hasattr(node, "body") and _is_text(node.body)}
    inner = {
        id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node
    }
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            value = "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            value = node.value
        else:
            continue
        if id(node) in docstrings or (messages and _is_sentence(value)):
            for passage in paragraphs(_numbered(value, node.lineno), docstring=id(node) in docstrings):
                yield Passage(min(passage.line, node.end_lineno or node.lineno), passage.text)


def _is_text(body: object) -> bool:
    return (
        isinstance(body, list)
        and bool(body)
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
    )


def _is_sentence(text: str) -> bool:
    words = text.split()
    return len(words) >= 5 and sum(bool(_WORD.fullmatch(word)) for word in words) >= 0.8 * len(words)


def _numbered(text: str, first: int = 1) -> Lines:
    return enumerate(text.split("\n"), first)


def _readers(path: Path) -> list[Callable[[str], Iterator[Passage]]]:
    match path.suffix or path.name:
        case ".md":
            return [_markdown]
        case ".yaml" | ".yml":
            return [_comments_behind(_HASHES), _values]
        case ".json":
            return [_values]
        case ".lua" | ".js" | ".go":
            return [_comments_behind(_SLASHES)]
        case (
            ".toml" | ".sh" | ".in" | "Makefile" | "Dockerfile" | "run" | ".gitignore" | ".dockerignore" | "CODEOWNERS"
        ):
            return [_comments_behind(_HASHES)]
    return []
