"""Escapes: percent-encoding, HTML entities, and those of JSON and JavaScript strings.

Each pattern begins with the encoding's own character, so a search skips a text without it at memory speed. Every repeat of a group has
a bound, because each turn takes memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import unescape
from html.entities import html5

VIEW_CHARACTERS = 64 * 1024  # a view of this size is complete
CONTEXT_CHARACTERS = 120  # kept on each side of an escape, on its line

_WORD_CHARACTERS = 256  # up to this many more, to the end of the word at the edge
_EDGES = re.compile(r"""[\s"'`&;,<>(){}\[\]|]""")

# Characters of more than one byte match separately, so that all characters of one escape have the same width.
_PERCENT = re.compile(
    r"%(?:[0-7][0-9A-Fa-f](?:%[0-7][0-9A-Fa-f]){0,1023}|[CDcd][0-9A-Fa-f]%[89ABab][0-9A-Fa-f]"
    r"|[Ee][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){2}|[Ff][0-7](?:%[89ABab][0-9A-Fa-f]){3}|[89A-Fa-f][0-9A-Fa-f])"
)
_WORD = re.compile(r"""[^\s"'<>#]+""")


def _percent(escape: re.Match[str]) -> str:
    return bytes.fromhex(escape[0].replace("%", "")).decode("utf-8", "replace")


def _spaced(word: re.Match[str]) -> str:
    """Replace `+` with a space if the word is a query or a form: it contains `=`, and `?` or `&`."""
    form = word[0]
    return form.replace("+", " ") if "=" in form and ("?" in form or "&" in form) else form


# No longer name means an ASCII character.
_HTML = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,7}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")


@lru_cache(maxsize=1024)
def _entity(entity: str) -> str:
    return (unescape(entity) or "\ufffd") if entity[1] == "#" else html5.get(entity[1:], entity)


def _html(escape: re.Match[str]) -> str:
    return _entity(escape[0])


_JSON = re.compile(
    r"""\\(?:\\(?:\\\\){0,511}|["'/nrt]|x[0-9A-Fa-f]{2}|u\{[0-9A-Fa-f]{1,6}\}"""
    r"""|u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})"""
)
_NAMED = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\"": '"', r"\'": "'", r"\/": "/"}


def _json(escape: re.Match[str]) -> str:
    escaped = escape[0]
    if char := _NAMED.get(escaped):
        return char
    if escaped[1] == "\\":
        return "\\" * (len(escaped) // 2)
    if len(escaped) == 12:  # a surrogate pair
        return chr(0x10000 + ((int(escaped[2:6], 16) & 0x3FF) << 10) + (int(escaped[8:], 16) & 0x3FF))
    code = int(escaped[2:].strip("{}"), 16)
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


ESCAPES: dict[str, tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]] = {
    "percent": ("%", _PERCENT, _percent),
    "html": ("&", _HTML, _html),
    "json": ("\\", _JSON, _json),
}


def unescaped(piece: str, encoding: str) -> str:
    """Decode the escapes in a piece of a text."""
    _, pattern, decode = ESCAPES[encoding]
    if encoding == "percent" and "+" in piece:
        piece = _WORD.sub(_spaced, piece)
    return pattern.sub(decode, piece)


def spans(text: str, encoding: str) -> Iterator[tuple[int, int]]:
    """Spans of escapes with their context. Close escapes share a span of at most about `VIEW_CHARACTERS` characters."""
    sign, pattern, _ = ESCAPES[encoding]
    if sign not in text:
        return
    first = last = -1
    for match in pattern.finditer(text):
        start, end = match.span()
        if first < 0:
            first = start
        elif start - last > 2 * CONTEXT_CHARACTERS or start - first > VIEW_CHARACTERS:
            yield _before(text, first), _after(text, last)
            first = start
        last = end
    if first >= 0:
        yield _before(text, first), _after(text, last)


def _before(text: str, at: int) -> int:
    start = max(0, at - CONTEXT_CHARACTERS)
    line = text.rfind("\n", start, at)
    if line >= 0:
        return line + 1
    edge = _EDGES.search(text, start, at) if start else None
    return edge.start() if edge else start


def _after(text: str, at: int) -> int:
    end = min(len(text), at + CONTEXT_CHARACTERS)
    line = text.find("\n", at, end)
    if line >= 0:
        return line
    edge = _EDGES.search(text, end, end + _WORD_CHARACTERS)
    return edge.end() if edge else min(len(text), end + _WORD_CHARACTERS)
