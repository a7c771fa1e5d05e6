"""Secrets between markers, `{* KEY: value *}`: found in one pass, in linear time on every input."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mission.errors import MissionFailed
from mission.model import Reason, Secret

DETECTOR = "marker"
UNCLASSIFIED = "UNCLASSIFIED"
# A document of 10 MiB has room for two million secrets; no one wants them, and they would fill the worker's memory.
MAX_SECRETS = 10_000

_KEY_VALUE = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,63}):\s+")


class Extractor:
    """Finds the secrets of a text. Holds no state: any number of threads may share it.

    A secret is the text between an opening marker and the next closing one that holds no other opening marker; it may
    span lines. White space around it is dropped, and what is empty then does not count. Markers are read from left to
    right and do not overlap: in `{*}` nothing is closed.

    `KEY: value` has the category KEY, where KEY is a letter and up to 63 more of `A-Z a-z 0-9 _ . -` (all ASCII),
    directly followed by a colon and white space (so neither `https://host` nor `host:8080` has a KEY). Everything else,
    also a KEY without a value, is `UNCLASSIFIED`, with the whole text as its value.
    """

    def __init__(self, markers: tuple[str, str] = ("{*", "*}")) -> None:
        self._marked = _compile(*markers) if ONE_EXPRESSION else _Tokens(*markers)

    def extract(self, text: str) -> list[Secret]:
        r"""Every occurrence, in the order of the text.

        Line and column are those of the value's first character, counted from 1 in characters (code points). A line
        ends with `\n`, `\r\n` or a lone `\r`.

        Raises:
            MissionFailed: `too_many_secrets`, there are more than `MAX_SECRETS`.
        """
        secrets: list[Secret] = []
        line, column, counted = 1, 1, 0
        for match in self._marked.finditer(text):
            content = match[1].lstrip()
            start = match.end(1) - len(content)
            content = content.rstrip()
            if not content:
                continue  # only where a marker itself holds white space
            if len(secrets) == MAX_SECRETS:
                raise MissionFailed(Reason.TOO_MANY_SECRETS)
            key = _KEY_VALUE.match(content)
            category, value = (key[1], content[key.end() :]) if key else (UNCLASSIFIED, content)
            start += len(content) - len(value)
            # A value starts with no white space, so a pair of \r\n never straddles the two places.
            breaks = text.count("\n", counted, start) + text.count("\r", counted, start)
            if breaks:
                line += breaks - text.count("\r\n", counted, start)
                column = start - max(text.rfind("\n", counted, start), text.rfind("\r", counted, start))
            else:
                column += start - counted
            counted = start
            secrets.append(Secret(DETECTOR, category, value, line, column))
        return secrets


def _compile(opening: str, closing: str) -> re.Pattern[str]:
    """An opening marker, content that is not blank and holds neither marker, a closing marker.

    Possessive throughout: nothing is tried twice. From each opening marker at most the way to the next one is read, so the
    whole takes time linear in the text, and memory for one match.
    """
    o, c, first = re.escape(opening), re.escape(closing), f"{re.escape(opening[0])}{re.escape(closing[0])}"
    return re.compile(rf"{o}(?!\s*+{c})([^{first}]*+(?:(?!{o}|{c})[{first}][^{first}]*+)*+){c}")


class _Tokens:
    """The same marker by marker, for a Python that cannot do it in one expression: linear as well, but some times slower."""

    def __init__(self, opening: str, closing: str) -> None:
        self._opening = re.compile(re.escape(opening))
        self._next = re.compile(rf"({re.escape(closing)})|{re.escape(opening)}")
        self._content = re.compile(r"(?=\s*\S)([\s\S]*)")

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        """A match for each secret; its group is the content."""
        opened = self._opening.search(text)
        while opened and (marker := self._next.search(text, opened.end())):
            content = self._content.fullmatch(text, opened.end(), marker.start()) if marker[1] else None
            if content:
                yield content
            opened = self._opening.search(text, marker.end() if content else opened.start() + 1)


# CPython before 3.11.5 (Debian 12 has 3.11.2) matches nothing by such an expression (gh-106052): every document would be empty.
ONE_EXPRESSION = _compile("{*", "*}").search("{*a*}") is not None
