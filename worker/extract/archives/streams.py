"""Bytes that are read once, plain or decompressed: gzip, bz2, xz, lzma, and the entries of a zip."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from mission.model import Cut
from worker.extract.archives.bounds import Bounds, Skip

PIECE_BYTES = 64 * 1024

_FEED = 16 * 1024  # compressed bytes given to a decompressor at a time
_SMALL = 1024 * 1024  # a stream that unpacks to less is no bomb, whatever its ratio


class _Decoder(Protocol):
    """The interface of `bz2` and `lzma`; `_Inflate` adds it to `zlib`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflate:
    """`zlib` with the interface of `bz2` and `lzma`."""

    def __init__(self, wbits: int) -> None:
        self._zlib = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


# The first bytes of each compressed stream, and a function from the memory for a dictionary to its decompressor.
_STREAMS: dict[str, tuple[bytes, Callable[[int], _Decoder]]] = {
    "gzip": (b"\x1f\x8b\x08", lambda _: _Inflate(31)),
    "bz2": (b"BZh", lambda _: bz2.BZ2Decompressor()),
    "xz": (b"\xfd7zXZ\0", lambda memory: lzma.LZMADecompressor(lzma.FORMAT_XZ, memory)),
    "lzma": (b"", lambda memory: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memory)),
    "deflate": (b"", lambda _: _Inflate(-15)),
}


class Source(Protocol):
    """Bytes that are read once."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""


class Stored:
    """Bytes that are not compressed."""

    def __init__(self, data: memoryview, bounds: Bounds) -> None:
        self._data, self._bounds, self._at = data, bounds, 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        piece = bytes(self._data[self._at : self._at + size])
        self._at += len(piece)
        self._bounds.spend(len(piece))
        return piece


class Unpacked:
    """The content of a compressed stream; several streams in a row count as one."""

    def __init__(self, data: memoryview, kind: str, bounds: Bounds) -> None:
        self._data, self._bounds = data, bounds
        self._magic, self._open = _STREAMS[kind]
        self._decoder = self._open(bounds.limits.memory)
        self._at = self._given = self._read = 0
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without consuming them; fewer only at the end."""
        while len(self._buffer) - self._read < size and (piece := self._more()):
            self._buffer, self._read = self._buffer[self._read :] + piece, 0
        return self._buffer[self._read : self._read + size]

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        parts = []
        while size and (self._read < len(self._buffer) or self._fill()):
            parts.append(self._buffer[self._read : self._read + size])
            self._read += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def _fill(self) -> bool:
        self._buffer, self._read = self._more(), 0
        return bool(self._buffer)

    def _more(self) -> bytes:
        """Decompress the next piece; empty at the end."""
        try:
            while not self._ended():
                feed = bytes(self._data[self._at : self._at + _FEED]) if self._decoder.needs_input else b""
                self._at += len(feed)
                piece = self._decoder.decompress(feed, PIECE_BYTES)
                self._bounds.spend(len(piece))
                self._given += len(piece)
                if self._given > _SMALL and self._given > self._at * self._bounds.limits.ratio:
                    raise Skip(Cut.RATIO)
                if piece:
                    return piece
                if not feed and not self._decoder.eof:
                    raise Skip(Cut.DAMAGED)  # the data ends early
        except MemoryError:
            raise Skip(Cut.UNSUPPORTED) from None
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise Skip(Cut.UNSUPPORTED if "emory" in str(error) else Cut.DAMAGED) from None
        return b""

    def _ended(self) -> bool:
        if not self._decoder.eof:
            return False
        self._at -= len(self._decoder.unused_data)
        if not self._magic or self._data[self._at : self._at + len(self._magic)] != self._magic:
            self._magic, self._at = b"", len(self._data)
            return True
        self._bounds.count()
        self._decoder = self._open(self._bounds.limits.memory)
        return False


def exactly(source: Source, size: int) -> bytes:
    """Return exactly `size` bytes.

    Raises:
        Skip: there are fewer.
    """
    data = source.read(size)
    if len(data) < size:
        raise Skip(Cut.DAMAGED)
    return data


def pass_over(source: Source, size: int) -> None:
    """Skip `size` bytes; raises like `exactly`."""
    while size > 0:
        size -= len(exactly(source, min(size, PIECE_BYTES)))
