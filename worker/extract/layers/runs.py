"""Runs of base64 and hex.

A mask maps all letters and digits to one byte. A search in it for 16 of them in a row skips most of a text at memory speed. In the base64
of a text such a row comes soon: only `>`, `?` and `~` produce other characters. `=` distinguishes base64 from a word, so 6 in a row
before it are enough.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable, Iterator

_BLOCK = 256 * 1024  # characters to search at a time: their mask stays in the processor's cache
_MAX_RUN = 1024 * 1024  # characters of base64 or hex; a multiple of 4, so that the rest stays aligned
_MAX_LEFT = 256  # characters of a run before its first row
_WRAPPED = 40  # a line of base64 with at least this many characters may continue on the next line
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
_SURE = 48  # so many decoded characters count as text, whatever follows them
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_ODD = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd\ufffe\uffff]")


def _base64_of(first: list[int], second: list[int], third: list[int]) -> str:
    """A pattern for three bytes of these values in base64: four characters, of which the last one may be any."""
    sixes = (
        {one >> 2 for one in first},
        {(one & 3) << 4 | two >> 4 for one in first for two in second},
        {(two & 15) << 2 | three >> 6 for two in second for three in third},
    )
    alphabets = _ALNUM.decode() + "+/", _ALNUM.decode() + "-_"
    classes = ["".join(sorted({letters[six] for letters in alphabets for six in values})) for values in sixes]
    return "".join(f"[{re.escape(letters)}]" if len(letters) < _MOST else "." for letters in classes) + "."


_MOST = 66  # letters and digits, and the signs of both alphabets
_ASCII, _LEAD, _TRAIL, _ANY = [9, 10, 13, *range(0x20, 0x7F)], [*range(0xC2, 0xF5)], [*range(0x80, 0xC0)], [*range(256)]
_BEGINS = "|".join(
    (
        _base64_of(_ASCII, _ASCII, [*_ASCII, *_LEAD]),
        _base64_of(_ASCII, _LEAD, _TRAIL),
        _base64_of(_LEAD, _TRAIL, _ANY),
    )
)
_GOES_ON = "|".join(
    (
        _base64_of(_ASCII, [*_ASCII, *_LEAD], _ANY),
        _base64_of(_LEAD, _TRAIL, _ANY),
        _base64_of(_TRAIL, [*_ASCII, *_LEAD, *_TRAIL], _ANY),
    )
)
# How a run can begin if it is a text; few words begin so. In UTF-16, the first byte precedes a NUL or belongs to a byte order mark.
_PROMISING = re.compile(
    rf"(?:{_BEGINS})(?:{_GOES_ON}){{2}}"
    rf"|{_base64_of(_ASCII, [0], _ASCII)}|{_base64_of([0xFF], [0xFE], _ANY)}|{_HEX_HEAD.pattern}|0[xX]"
)


def candidates(text: str, late: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """Runs that may be base64 or hex, in the order of the text."""
    resume, promising = 0, _PROMISING.match
    for block in range(0, len(text), _BLOCK):
        if late():
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
    """The start of the run that contains `at`, but not before `low`."""
    low = max(low, at - _MAX_LEFT)
    return low + len(text[low:at].rstrip(_ALPHABET))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def decoded_run(text: str, start: int, end: int) -> tuple[int, int, str, str] | None:
    """Decode a run. Returns the start and end of the decoded part, its encoding, and the text; None if it is no text.

    The decoded part is the whole run, or the first word in it, as in `/path/WORD/more` or `key_WORD`.
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
        end = last  # even if the later lines are no text: each line is read only once
        decoded = _as_text(_unpacked(text[start:end])) or decoded
    return (start, end, "base64", decoded) if decoded else None


def _wrapped(text: str, start: int, end: int) -> int:
    """The end of a run that continues on the next lines. All lines are as long as the first; the last may be shorter."""
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
    """The text of bytes, or the text at their start if it is too long to be an accident; otherwise ""."""
    if data.startswith(codecs.BOM_UTF16_LE) or (len(data) >= 8 and not any(data[1:16:2]) and all(data[:16:2])):
        text = data.decode("utf-16-le", "replace").removeprefix("\ufeff")
        return "" if _ODD.search(text) else text
    odd = _CONTROL.search(data)
    text, bad = _utf_8(data[: odd.start()] if odd else data)
    whole = not odd and not bad
    return text if len(text) >= (_SURE if not whole else 4 if text.isascii() else 8) else ""


def _utf_8(data: bytes) -> tuple[str, bool]:
    """The text up to the first invalid UTF-8, and whether there is any. An incomplete character at the end does not count."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[0], False
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), True
