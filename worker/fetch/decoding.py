"""Decoding of content codings, piece by piece, with a limit on the output (RFC 9110 section 8.4).

The worker asks for gzip and deflate, but servers send others too. A bomb costs no more than the limit: every step
returns at most `STEP` bytes, and reads from the layer below only when they are used up.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import brotli

from mission.errors import MissionFailed
from mission.model import Reason

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP: Final = 64 * 1024
MAX_CODINGS: Final = 2
# An empty member has 20 bytes and costs a new decoder: millions of them would take very long.
MAX_MEMBERS: Final = 4096
# RFC 9659: a zstd frame sent over HTTP needs no window over 8 MiB.
_ZSTD_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
_ERRORS = (zlib.error, brotli.error, zstd.ZstdError)


class _Member:
    """One compressed stream, with a library's decoder that reports its end and the data after it."""

    _stream: Any

    @property
    def ended(self) -> bool:
        return bool(self._stream.eof)

    @property
    def rest(self) -> bytes:
        after: bytes = self._stream.unused_data
        return after

    def feed(self, data: bytes) -> bytes:
        """Return about `STEP` bytes at most. Call it with no data until it returns nothing, then with more data."""
        piece: bytes = self._stream.decompress(data, STEP)
        return piece


class _Zlib(_Member):
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> bytes:
        return super().feed(self._stream.unconsumed_tail + data)


class _Gzip(_Zlib):
    def __init__(self) -> None:
        super().__init__(16 + zlib.MAX_WBITS)


class _Deflate(_Zlib):
    """Deflate with zlib's header, as the RFC requires, or without it, as some servers send it."""

    def __init__(self) -> None:
        super().__init__(zlib.MAX_WBITS)
        self._head: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        if self._head is not None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            self._head = None
            if data[0] & 0x0F != zlib.DEFLATED or int.from_bytes(data[:2]) % 31:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return super().feed(data)


class _Brotli(_Member):
    rest = b""  # the library reports data after the end as an error

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._stream.is_finished())

    def feed(self, data: bytes) -> bytes:
        piece: bytes = self._stream.process(data, output_buffer_limit=STEP)
        return piece


class _Zstd(_Member):
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(options=_ZSTD_WINDOW)

    def feed(self, data: bytes) -> bytes:
        piece = super().feed(data)
        while not (piece or self.ended or self._stream.needs_input):
            piece = super().feed(b"")
        return piece


_CODINGS: Final[dict[str, Callable[[], _Member]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
# Their decoders need megabytes for windows and tables, even for a small document.
LARGE_CODINGS: Final = frozenset({"br", "zstd"})
_SEVERAL_MEMBERS = (_Gzip, _Zstd)  # RFC 1952 section 2.2, RFC 8878 section 3


def content_codings(values: Iterable[str]) -> list[str]:
    """The codings in `Content-Encoding` fields, in the order in which the server applied them.

    Raises:
        MissionFailed: one is unknown, or there are more than `MAX_CODINGS` (`MALFORMED_RESPONSE`).
    """
    named = [item.strip(" \t").lower() for value in values for item in value.split(",")]
    codings = [item for item in named if item not in ("", "identity")]
    if len(codings) > MAX_CODINGS or not _CODINGS.keys() >= set(codings):
        raise MissionFailed(Reason.MALFORMED_RESPONSE)
    return codings


def decoded(
    chunks: Iterable[bytes], codings: Iterable[str], *, limit: int, check: Callable[[int], object]
) -> Iterator[bytes]:
    """Decode the chunks. `limit` applies to each layer, in bytes.

    Every step calls `check` with the number of bytes of its layer so far, before they are used.

    Raises:
        MissionFailed: more than `limit` bytes (`BODY_TOO_LARGE`), or invalid data for the coding (`MALFORMED_RESPONSE`).
    """
    layer = _capped(chunks, limit, check)
    for coding in reversed(list(codings)):
        layer = _capped(_undo(layer, _CODINGS[coding]), limit, check)
    return layer


def _capped(chunks: Iterable[bytes], limit: int, check: Callable[[int], object]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise MissionFailed(Reason.BODY_TOO_LARGE)
        check(size)
        yield chunk


def _undo(chunks: Iterable[bytes], new_member: Callable[[], _Member]) -> Iterator[bytes]:
    most = MAX_MEMBERS if new_member in _SEVERAL_MEMBERS else 1
    member: _Member | None = None
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if member is None:
                    if not most:
                        raise MissionFailed(Reason.MALFORMED_RESPONSE)
                    most -= 1
                    member = new_member()
                piece = member.feed(rest)
                while piece:
                    yield piece
                    piece = b"" if member.ended else member.feed(b"")
                rest = member.rest
                if member.ended:
                    member = None
    except _ERRORS:
        raise MissionFailed(Reason.MALFORMED_RESPONSE) from None
    if member is not None:
        raise MissionFailed(Reason.MALFORMED_RESPONSE)
