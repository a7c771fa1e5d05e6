"""What stands encoded in a text: base64, hex, percent-encoding, HTML entities and the escapes of JSON and JavaScript strings.

A view is a piece of the text as it reads decoded, with so much around it that a value keeps its key. Pieces of one encoding are
joined into views of some 64 KiB, with `SEPARATOR` between them. What a view holds is looked at once more: depth 2, in any mix.

Every step is linear in the text on every input. Views of the first level hold at most `FACTORS[0]` times the text's characters, those
of the second `FACTORS[1]` times; one view at a time is in memory.
"""

from __future__ import annotations

import binascii
import codecs
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import unescape
from html.entities import html5
from time import monotonic

from mission.model import Cut

# Between the pieces that a view joins: neither white space alone nor part of a word, so no rule reads across.
SEPARATOR = "\n#\n"
# Decoded characters by the text's, for each level; and what a small text may have all the same.
FACTORS = (2, 1)
LEAST = 64 * 1024

_VIEW = 64 * 1024  # a view that has as much is given
_CONTEXT = 120  # characters kept on each side of an escape, on its line
_EDGE = 256  # and as many more, to the end of the word that stands there
_BLOCK = 256 * 1024  # searched for runs at a time: its mask stays in the processor's cache
_MAX_RUN = 1024 * 1024  # of base64 or hex; divides by 4, so that what follows is in step
_WRAPPED = 40  # a line of base64 that has as many may go on in the next one

_ONE = 3  # steps from one character to the next are counted in thirds
_ESCAPED = -1  # text in which escapes and plain characters take turns
# Where it begins in the view; where its source begins and ends; its step.
_Piece = tuple[int, int, int, int]

_EDGES = re.compile(r"""[\s"'`&;,<>(){}\[\]|]""")


@dataclass(frozen=True)
class View:
    """A decoded piece of a text.

    Attributes:
        text: as it reads decoded. It holds no lone surrogate that the document's text did not.
        encoding: `base64`, `hex`, `percent`, `html` or `json`; of a view's view both with `+` between, the outer one first.
    """

    text: str = field(repr=False)
    encoding: str
    _source: str = field(repr=False)
    _pieces: list[_Piece] = field(repr=False)
    _parent: View | None = field(repr=False)

    def origin(self, offset: int) -> int:
        """Where, in characters of the document's own text, that begins which stands at `offset` of the view.

        Exact for a character that was escaped. In base64 or hex it is where the character is, less line breaks and whatever a
        character takes more than a byte: never outside of the run, and never before what stands before it.
        """
        starts, sources, steps = self._map
        at = bisect_right(starts, offset) - 1
        source = sources[at] + (offset - starts[at]) * steps[at] // _ONE
        return self._parent.origin(source) if self._parent else source

    def untouched(self, start: int, end: int) -> bool:
        """Whether a span reads just so in what the view was made of: the level above has looked at it."""
        starts, _, steps = self._map
        at = bisect_right(starts, start) - 1
        return steps[at] == _ONE and at == bisect_right(starts, max(start, end - 1)) - 1

    @cached_property
    def _map(self) -> tuple[array[int], array[int], array[int]]:
        """Where runs of the view's text begin, where in the source, and by how much a character steps on; few ask for it."""
        starts, sources, steps = array("q"), array("q"), array("q")

        def run(source: int, step: int) -> None:
            starts.append(at)
            sources.append(source)
            steps.append(step)

        for at, source, end, step in self._pieces:
            if step != _ESCAPED:
                run(source, step)
                continue
            _, pattern, decode = _ESCAPES[self.encoding.rpartition("+")[2]]
            for match in pattern.finditer(self._source, source, end):
                start, after = match.span()
                if start > source:
                    run(source, _ONE)
                decoded = len(decode(match))
                at += start - source
                run(start, (after - start) * _ONE // decoded)
                at += decoded
                source = after
            if source < end:
                run(source, _ONE)
        return starts, sources, steps


def views(text: str, cut: set[Cut], *, deadline: float) -> Iterator[View]:
    """All views of a text, each followed by those of its own text.

    Args:
        text: the document's.
        cut: gets `time` or `bytes` where not everything was decoded.
        deadline: on the monotonic clock, looked at between pieces.
    """
    pool = _Pool([max(LEAST, factor * len(text)) for factor in FACTORS], cut, deadline)
    yield from _level(text, None, 0, pool)


@dataclass(slots=True)
class _Pool:
    """What may still be decoded."""

    left: list[int]
    cut: set[Cut]
    deadline: float

    def late(self) -> bool:
        if monotonic() < self.deadline:
            return False
        self.cut.add(Cut.TIME)
        return True

    def take(self, level: int, size: int) -> bool:
        if size > self.left[level]:
            self.left[level] = 0
            self.cut.add(Cut.BYTES)
            return False
        self.left[level] -= size
        return True


class _Draft:
    """A view that is being written."""

    def __init__(self) -> None:
        self.size = 0
        self._texts: list[str] = []
        self._pieces: list[_Piece] = []

    def add(self, text: str, source: int, end: int, step: int) -> None:
        """Text that comes from there in the source."""
        if text:
            self._texts.append(text)
            self._pieces.append((self.size, source, end, step))
            self.size += len(text)

    def part(self, source: int) -> None:
        """Whatever comes next, from `source` on, stands apart from what came before."""
        if self.size:
            self.add(SEPARATOR, source, source, 0)

    def view(self, encoding: str, source: str, parent: View | None) -> View:
        name = f"{parent.encoding}+{encoding}" if parent else encoding
        return View("".join(self._texts), name, source, self._pieces, parent)


def _level(text: str, parent: View | None, level: int, pool: _Pool) -> Iterator[View]:
    for view in _views(text, parent, pool):
        if pool.late() or not pool.take(level, len(view.text)):
            return
        yield view
        if level + 1 < len(FACTORS) and pool.left[level + 1]:
            yield from _level(view.text, view, level + 1, pool)


def _views(text: str, parent: View | None, pool: _Pool) -> Iterator[View]:
    yield from _runs(text, parent, pool)
    for encoding, (sign, pattern, decode) in _ESCAPES.items():
        draft = _Draft()
        for start, end in _spans(text, pattern) if sign in text else ():
            if parent and parent.untouched(start, end):
                continue
            if pool.late():
                return
            piece = text[start:end]
            if encoding == "percent" and "+" in piece:
                piece = _WORD.sub(_spaces, piece)
            draft.part(start)
            draft.add(pattern.sub(decode, piece), start, end, _ESCAPED)
            if draft.size >= _VIEW:
                yield draft.view(encoding, text, parent)
                draft = _Draft()
        if draft.size:
            yield draft.view(encoding, text, parent)


# Escapes: each has a pattern that begins with its own character, so that a text without it is passed over at memory's speed. No
# repeat of a group is without a bound, for each turn of one takes memory.


def _spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Where escapes stand, with what is around them; near ones together, but no more than about `_VIEW` characters."""
    first = last = -1
    for match in pattern.finditer(text):
        start, end = match.span()
        if first < 0:
            first = start
        elif start - last > 2 * _CONTEXT or start - first > _VIEW:
            yield _before(text, first), _after(text, last)
            first = start
        last = end
    if first >= 0:
        yield _before(text, first), _after(text, last)


def _before(text: str, at: int) -> int:
    start = max(0, at - _CONTEXT)
    line = text.rfind("\n", start, at)
    if line >= 0:
        return line + 1
    edge = _EDGES.search(text, start, at) if start else None
    return edge.start() if edge else start


def _after(text: str, at: int) -> int:
    end = min(len(text), at + _CONTEXT)
    line = text.find("\n", at, end)
    if line >= 0:
        return line
    edge = _EDGES.search(text, end, end + _EDGE)
    return edge.end() if edge else min(len(text), end + _EDGE)


# A character that takes more than a byte by itself, so that what an escape stands for has characters of one width.
_PERCENT = re.compile(
    r"%(?:[0-7][0-9A-Fa-f](?:%[0-7][0-9A-Fa-f]){0,1023}|[CDcd][0-9A-Fa-f]%[89ABab][0-9A-Fa-f]"
    r"|[Ee][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){2}|[Ff][0-7](?:%[89ABab][0-9A-Fa-f]){3}|[89A-Fa-f][0-9A-Fa-f])"
)
_WORD = re.compile(r"""[^\s"'<>#]+""")


def _percent(escape: re.Match[str]) -> str:
    return bytes.fromhex(escape[0].replace("%", "")).decode("utf-8", "replace")


def _spaces(word: re.Match[str]) -> str:
    """A word, in which `+` is a space if it is a query or a form: with `=`, and with `?` or `&`."""
    form = word[0]
    return form.replace("+", " ") if "=" in form and ("?" in form or "&" in form) else form


# No name that stands for an ASCII character is longer.
_HTML = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,7}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")


def _html(escape: re.Match[str]) -> str:
    entity = escape[0]
    return (unescape(entity) or "\ufffd") if entity[1] == "#" else html5.get(entity[1:], entity)


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
    if len(escaped) == 12:  # a pair
        return chr(0x10000 + ((int(escaped[2:6], 16) & 0x3FF) << 10) + (int(escaped[8:], 16) & 0x3FF))
    code = int(escaped[2:].strip("{}"), 16)
    return "\ufffd" if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


_ESCAPES: dict[str, tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]] = {
    "percent": ("%", _PERCENT, _percent),
    "html": ("&", _HTML, _html),
    "json": ("\\", _JSON, _json),
}


# Runs of base64 and hex. A text's letters and digits become one byte in a mask, and a search in it for 16 of them in a row passes
# over most of a text at memory's speed. In base64 of a text such a row comes soon: only `>`, `?` and `~` give anything else. `=`
# tells base64 from a word, so before it 6 are enough.

_ALNUM = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SIGNS = "+/-_"
_ALPHABET = _ALNUM.decode() + _SIGNS
_MASK = bytes(0x41 if byte in _ALNUM else 0x20 for byte in range(256))
_ROW_OF = b"A" * 16
_PADDED = re.compile(
    r"""=(?<=[A-Za-z0-9]{6}=)=?(?![A-Za-z0-9=]|["'][^\s,;:)\]}<>\\])"""
)  # not `name=value` or `name="value"`
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{0,{_MAX_RUN}}}={{0,2}}")
_NEXT_LINE = re.compile(r"\r?\n[ \t]{0,64}([A-Za-z0-9+/_-]+={0,2})")
_ROW = re.compile(r"[A-Za-z0-9]{16,}={0,2}")
_HEX_HEAD = re.compile(r"(?:(?:[2-7][0-9A-Fa-f]|0[9ADad]){4}|[Ff]{3}[Ee][0-9A-Fa-f]{4})[0-9A-Fa-f]{8}")
_HEX_RUN = re.compile(rf"[0-9A-Fa-f]{{0,{_MAX_RUN}}}")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SURE = 48  # characters of text that are one, whatever comes after them
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_ODD = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd\ufffe\uffff]")


def _base64_of(first: list[int], second: list[int], third: list[int]) -> str:
    """A pattern of the three characters that three bytes of these values begin with in base64."""
    sixes = (
        {one >> 2 for one in first},
        {(one & 3) << 4 | two >> 4 for one in first for two in second},
        {(two & 15) << 2 | three >> 6 for two in second for three in third},
    )
    alphabets = _ALNUM.decode() + "+/", _ALNUM.decode() + "-_"
    classes = ({re.escape(letters[six]) for letters in alphabets for six in values} for values in sixes)
    return "".join(f"[{''.join(sorted(letters))}]" for letters in classes)


_ASCII, _LEAD, _TRAIL, _ANY = [9, 10, 13, *range(0x20, 0x7F)], [*range(0xC2, 0xF5)], [*range(0x80, 0xC0)], [*range(256)]
_AGAIN = f"(?:{_base64_of(_ASCII, _ASCII, _ANY)}|{_base64_of(_ASCII, _LEAD, _TRAIL)}|{_base64_of(_LEAD, _TRAIL, _ANY)})"
_FOLLOWS = "[g-v]"  # the second byte of a character
# How a run begins that can be a text; in UTF-16, its first byte comes before a NUL or is a mark. Few words begin so.
_HEAD = "|".join(
    (
        _base64_of(_ASCII, _ASCII, _ASCII) + f".{_AGAIN}",
        _base64_of(_ASCII, _ASCII, _LEAD) + f".{_FOLLOWS}",
        _base64_of(_ASCII, _LEAD, _TRAIL) + f".(?:{_FOLLOWS}|{_AGAIN})",
        _base64_of(_LEAD, _TRAIL, _ANY),
        _base64_of(_ASCII, [0], _ASCII),
        _base64_of([0xFF], [0xFE], _ANY),
        _HEX_HEAD.pattern,
        "0[xX]",
    )
)
_PROMISING = re.compile(_HEAD)


def _runs(text: str, parent: View | None, pool: _Pool) -> Iterator[View]:
    drafts = {"base64": _Draft(), "hex": _Draft()}
    used = 0
    for start, end in _candidates(text, pool):
        if end <= used or (parent and parent.untouched(max(0, start - 1), min(len(text), end + 1))):
            continue
        if pool.late():
            return
        found = _decoded(text, max(start, used), end)
        if not found:
            continue
        low, (start, used, encoding, decoded) = used, found
        draft = drafts[encoding]
        draft.part(start)
        if "\n" not in decoded.strip():  # else it has lines of its own, and may be a key file
            line = max(low, start - _CONTEXT)
            line = max(line, text.rfind("\n", line, start) + 1)
            draft.add(text[line:start], line, start, _ONE)
        draft.add(decoded, start, used, 4 if encoding == "base64" else 2 * _ONE)  # 4 characters are 3 bytes
        if text.startswith(('"', "'", "`"), used):
            draft.add(text[used], used, used + 1, _ONE)
        if draft.size >= _VIEW:
            yield draft.view(encoding, text, parent)
            drafts[encoding] = _Draft()
    for encoding, draft in drafts.items():
        if draft.size:
            yield draft.view(encoding, text, parent)


def _candidates(text: str, pool: _Pool) -> Iterator[tuple[int, int]]:
    """Runs that may be base64 or hex, in the order of the text."""
    resume, promising = 0, _PROMISING.match
    for block in range(0, len(text), _BLOCK):
        if pool.late():
            return
        end = min(block + _BLOCK, len(text))
        spans = []
        for sign in _PADDED.finditer(text, block, end + 2):
            start = _left(text, sign.start(), max(0, sign.start() - len(_ROW_OF)))
            if not (sign.end() - start) % 4 and promising(text, start):
                spans.append((start, sign.end()))
        mask = text[block : end + len(_ROW_OF)].encode("latin-1", "replace").translate(_MASK)
        at = mask.find(_ROW_OF, max(0, resume - block))
        while at >= 0:
            start = hit = block + at
            if hit > resume and text[hit - 1] in _SIGNS:
                start = _left(text, hit, resume)
            if promising(text, start) or (start < hit and promising(text, hit)):
                resume = _end(_RUN, text, start)
                spans.append((start, resume))
                at = resume - block
            elif (at := mask.find(b" ", at)) < 0:
                break
            at = mask.find(_ROW_OF, at)
        yield from sorted(spans)
        resume = max(resume, end)


def _left(text: str, at: int, low: int) -> int:
    """Where the run begins that holds `at`, not before `low`."""
    low = max(low, at - _EDGE)
    return low + len(text[low:at].rstrip(_ALPHABET))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _decoded(text: str, start: int, end: int) -> tuple[int, int, str, str] | None:
    """The text in a run: where what was decoded begins and ends, its encoding, the text. None if it is no text.

    It may be the whole run, or the first word in it, as in `/path/WORD/more` or `key_WORD`.
    """
    if text.startswith(("0x", "0X"), start):
        start += 2
    if found := _decoded_whole(text, start, end):
        return found
    word = None if text[start:end].isalnum() else _ROW.search(text, start, end)
    return _decoded_whole(text, *word.span()) if word and word.span() != (start, end) else None


def _decoded_whole(text: str, start: int, end: int) -> tuple[int, int, str, str] | None:
    if _HEX_HEAD.match(text, start) and _end(_HEX_RUN, text, start) == end and not (end - start) % 2:
        decoded = _as_text(bytes.fromhex(text[start:end]))
        return (start, end, "hex", decoded) if decoded else None
    decoded = _as_text(_unpacked(text[start:end]))
    if decoded and (last := _wrapped(text, start, end)) > end:
        end = last  # also where it is no text to its end: each line is looked at once
        decoded = _as_text(_unpacked(text[start:end])) or decoded
    return (start, end, "base64", decoded) if decoded else None


def _wrapped(text: str, start: int, end: int) -> int:
    """Where a run ends that goes on in the lines below: as long as the first one, but for the last."""
    width = end - start
    if width < _WRAPPED or width % 4:
        return end
    while text[end - 1] != "=" and end - start < _MAX_RUN:
        line = _NEXT_LINE.match(text, end)
        if not line or len(line[1]) > width:
            break
        end = line.end()
        if len(line[1]) < width:
            break
    return end


def _unpacked(run: str) -> bytes:
    data = run.encode("ascii").translate(_STANDARD, b" \t\r\n=")
    if len(data) % 4 == 1:
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def _as_text(data: bytes) -> str:
    """The text that bytes are, or begin with if that is long enough to be no accident; else none."""
    if data.startswith(codecs.BOM_UTF16_LE) or (len(data) >= 8 and not any(data[1:16:2]) and all(data[:16:2])):
        text = data.decode("utf-16-le", "replace").removeprefix("\ufeff")
        return "" if _ODD.search(text) else text
    odd = _CONTROL.search(data)
    text, bad = _utf_8(data[: odd.start()] if odd else data)
    whole = not odd and not bad
    return text if len(text) >= (_SURE if not whole else 4 if text.isascii() else 8) else ""


def _utf_8(data: bytes) -> tuple[str, bool]:
    """Text as far as it is UTF-8, and whether something else comes; a character that is cut off at the end is not."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[0], False
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), True
