"""A strict parser for HTTP/1.1 responses (RFC 9112): head, framing and body, each with a limit.

`http.client` guesses when a server is wrong: it accepts folded lines, two lengths, `+5` or `0x5` as a chunk's size, and
6 MB of header. This parser refuses everything ambiguous (`MALFORMED_RESPONSE`).
"""

from __future__ import annotations

import http.client
import re
from typing import Any

from mission.errors import MissionFailed
from mission.model import Reason
from worker.fetch.wire import Wire

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 100
MAX_CHUNK_LINE = 4096
MAX_EXTENSION_BYTES = 64 * 1024
# A chunk costs 2.3 µs of CPU whatever its size: 10 MiB byte by byte would take 24 s of CPU.
SMALL_CHUNK = 32
MAX_SMALL_CHUNKS = 256 * 1024

# RFC 9112 section 4; the reason phrase is ignored.
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: [^\r\n\0]*)?\r?\n")
# RFC 9110 section 5.1 and 5.5: a token, no space before the colon, no folding (a line that starts with a space).
_FIELD_OR_END = re.compile(rb"(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*))?\r?\n")
# RFC 9112 section 7.1; extensions are ignored.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n\0]*)?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_USUAL_CHUNK_LINE = 18
_LINE_ENDS = (b"\r\n", b"\n")


def malformed() -> MissionFailed:
    """The error for a response that is not valid HTTP."""
    return MissionFailed(Reason.MALFORMED_RESPONSE)


def cut_off() -> MissionFailed:
    """The error for a response that ended early."""
    return MissionFailed(Reason.CONNECTION_FAILED)


class _Body:
    """A body with the methods that `http.client` uses; this kind ends with its connection.

    A connection stays alive only if its body states its end, was read completely, and no data follows.
    """

    def __init__(self, wire: Wire, *, keep: bool = False) -> None:
        self._wire = wire
        self._keep = keep
        self._ended = False

    def read1(self, size: int) -> bytes:
        """Return between 1 and `size` bytes; none at the end."""
        return self._wire.read1(size)

    def flush(self) -> None:
        """Do nothing: there is no write buffer."""

    def close(self) -> None:
        """Close the connection, unless the body ended and the connection can be reused."""
        if not self._ended:
            self._wire.close()

    def _end(self) -> None:
        self._ended = self._keep and not self._wire.pending
        if not self._ended:
            self._wire.close()


class _FixedBody(_Body):
    """A body with a known length."""

    def __init__(self, wire: Wire, length: int, *, keep: bool) -> None:
        super().__init__(wire, keep=keep)
        self._left = length
        if not length:
            self._end()

    def read1(self, size: int) -> bytes:
        if not self._left:
            return b""
        data = self._wire.read1(min(size, self._left))
        if not data:
            raise cut_off()
        self._left -= len(data)
        if not self._left:
            self._end()
        return data


class _ChunkedBody(_Body):
    """A body in chunks (RFC 9112 section 7.1). Extensions and trailers are ignored; they and tiny chunks have a limit."""

    def __init__(self, wire: Wire, *, keep: bool) -> None:
        super().__init__(wire, keep=keep)
        self._left = 0
        self._last = False
        self._spare = MAX_EXTENSION_BYTES
        self._small = MAX_SMALL_CHUNKS

    def read1(self, size: int) -> bytes:
        data = bytearray()
        # Read everything received so far: a thousand tiny chunks are one read.
        while not self._last and len(data) < size and (not data or self._wire.pending):
            if not self._left and not self._next_chunk():
                break
            piece = self._wire.read1(min(size - len(data), self._left))
            if not piece:
                raise cut_off()
            data += piece
            self._left -= len(piece)
            if not self._left:
                self._line_end()
        return bytes(data)

    def _next_chunk(self) -> bool:
        match = _Lines(self._wire, MAX_CHUNK_LINE).read(_CHUNK_SIZE)
        self._left = int(match[1], 16)
        self._spare -= max(0, len(match[0]) - _USUAL_CHUNK_LINE)
        self._small -= self._left < SMALL_CHUNK
        if self._spare < 0 or self._small < 0:
            raise malformed()
        if not self._left:
            _Lines(self._wire, MAX_HEAD_BYTES).fields()
            self._last = True
            self._end()
        return bool(self._left)

    def _line_end(self) -> None:
        line = self._wire.readline(2)
        if line not in _LINE_ENDS:
            raise malformed() if len(line) == 2 else cut_off()


class _Lines:
    """Lines of a head, within one budget of bytes."""

    def __init__(self, wire: Wire, budget: int) -> None:
        self._wire = wire
        self._left = budget

    def read(self, form: re.Pattern[bytes], opening: bytes = b"") -> re.Match[bytes]:
        """The next line, matched against `form`.

        Raises:
            MissionFailed: it does not match, or the budget is used up (`MALFORMED_RESPONSE`); the connection ended
                within a line that could still have matched (`CONNECTION_FAILED`).
        """
        line = self._wire.readline(self._left)
        self._left -= len(line)
        if match := form.fullmatch(line):
            return match
        if line.endswith(b"\n") or not self._left or not line.startswith(opening[: len(line)]):
            raise malformed()
        raise cut_off()

    def fields(self) -> list[tuple[str, str]]:
        """Header or trailer fields up to the empty line, as (name, value), decoded as ISO 8859-1."""
        fields: list[tuple[str, str]] = []
        while name := (match := self.read(_FIELD_OR_END))[1]:
            if len(fields) == MAX_FIELDS:
                raise malformed()
            fields.append((name.decode("latin-1"), match[2].strip(b" \t").decode("latin-1")))
        return fields


def read_head(wire: Wire) -> tuple[int, int, list[tuple[str, str]]]:
    """The HTTP minor version, the status and the fields of a response; skips interim responses before it.

    Raises:
        MissionFailed: the head is invalid or too large (`MALFORMED_RESPONSE`), or incomplete.
    """
    lines = _Lines(wire, MAX_HEAD_BYTES)
    status = int(http.HTTPStatus.CONTINUE)
    while status < http.HTTPStatus.OK:
        line = lines.read(_STATUS, opening=b"HTTP/1.")
        minor, status = int(line[1]), int(line[2])
        fields = lines.fields()
        if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise malformed()
    return minor, status, fields


class StrictResponse(http.client.HTTPResponse):
    """`http.client`'s response with a parser that does not guess.

    After `begin` it is a plain body: this class joins the chunks and removes `Transfer-Encoding`, as in RFC 9112
    section 7.1.3. A failure is a `MissionFailed` that passes through the libraries unchanged.
    """

    fp: Any  # first the Wire, then a body on it

    def begin(self) -> None:
        """Read the head, with interim responses before it, and set up the body."""
        wire: Wire = self.fp
        minor, status, fields = read_head(wire)
        self.version = 11 if minor else 10
        self.code = self.status = status
        self.reason = ""
        self.chunked = False
        self.length = None
        # The body closes the connection if necessary: http.client would do so before the body is read.
        self.will_close = False
        self.fp = self._body(wire, fields)
        self.headers = self.msg = http.client.HTTPMessage()
        for name, value in fields:
            if name.lower() != "transfer-encoding":
                self.msg[name] = value

    def _body(self, wire: Wire, fields: list[tuple[str, str]]) -> _Body:
        """The body, by the rules for its length (RFC 9112 section 6.3)."""

        def items(wanted: str) -> list[str]:
            values = [value for name, value in fields if name.lower() == wanted]
            return [item.strip(" \t").lower() for value in values for item in value.split(",")]

        connection = items("connection")
        keep = "close" not in connection and (self.version == 11 or "keep-alive" in connection)
        lengths = set(items("content-length"))
        codings = items("transfer-encoding")
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise malformed()
        if codings and (codings != ["chunked"] or lengths or self.version == 10):
            raise malformed()
        if self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            return _FixedBody(wire, 0, keep=keep)
        if codings:
            return _ChunkedBody(wire, keep=keep)
        if lengths:
            return _FixedBody(wire, int(lengths.pop()), keep=keep)
        return _Body(wire)
