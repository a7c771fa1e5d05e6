"""What a body holds: gzip, bz2, xz, lzma, zip (Office documents and jars are zips) and tar, one in another to depth 3.

An archive is known by its first bytes, never by a name or a content type. Everything is read in memory, in pieces, with a bound on
whatever a stranger can choose; no file is written. The headers of zip are read here, for `zipfile` keeps an object of each entry
and takes bz2 and lzma without a bound; those of tar by `tarfile.TarInfo`, for `tarfile` itself takes PAX headers of any length.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from mission.model import Cut

MAX_NAME = 255  # characters of one name in a path

_PIECE = 64 * 1024
_FEED = 16 * 1024  # compressed bytes given to a decompressor at a time
_SMALL = 1024 * 1024  # what unpacks to less is no bomb, whatever its ratio
_LONG_NAME = 64 * 1024  # of a tar's header for a long name
_USTAR = b"ustar"
_ENDINGS = (".gz", ".bz2", ".xz", ".lzma")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        path: its name, after those of the archives that it is in, each with a `!`: `app/.env`, `inner.zip!app/.env`. The body itself
            has no name. What a compressed stream holds is called as the stream, without the ending: `a.log` of `a.log.gz`; and where the
            body itself is one, by its format: `gzip`, `bz2`, `xz`, `lzma`. A compressed tar is as a tar. Names are a stranger's: of
            `MAX_NAME` characters each at most (the last ones), but with any
            character in them, control characters too. They are no paths to write to.
        body: its bytes.
    """

    path: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one body may unpack to. Up to `depth` members are in memory at once, and one more copy of the last.

    Attributes:
        total: bytes unpacked in all, also of what is read over.
        member: bytes of one member; of a longer one these are given.
        members: of all archives together, folders too.
        depth: archives in archives; a compressed tar is one.
        ratio: of unpacked to packed bytes, of what unpacks to more than 1 MiB.
        memory: bytes that an lzma dictionary may take.
    """

    total: int = 64 * 1024**2
    member: int = 10 * 1024**2
    members: int = 20_000
    depth: int = 3
    ratio: int = 200
    memory: int = 20 * 1024**2


def is_archive(body: bytes) -> bool:
    """Whether a body begins as an archive does."""
    return _kind(body) is not None


def looks_like_text(body: bytes) -> bool:
    """Whether it can be a text: its first 4 KiB hold no NUL and hardly another control character, or it has a mark of UTF-16 or 32."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return True
    head = body[:4096]
    odd = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" not in head and odd * 50 <= len(head)


def members(body: bytes, deadline: float, cut: set[Cut], limits: Limits = Limits()) -> Iterator[Member]:
    """The files in an archive and in those within it that are not empty, in their order. None if the body is no archive. Never fails.

    Args:
        body: the document.
        deadline: on the monotonic clock, looked at between pieces.
        cut: gets a word for whatever is not among the members, or not whole. Members that are damaged (also at their very end),
            encrypted or unsupported are left out; so are archives below `depth`.
        limits: of what it costs.
    """
    kind = _kind(body)
    if kind:
        try:
            yield from _Walk(deadline, cut, limits).inside(body, kind, "", 1)
        except _Over as over:
            cut.add(over.cut)


_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\r\f\b\x1b")


class _Over(Exception):
    """A bound of the whole was reached."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut


class _Skip(Exception):
    """A member, or the rest of an archive, cannot be had."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut


def _kind(body: bytes) -> str | None:
    if body.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if body.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if body.startswith(b"BZh") and body[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bz2"
    if body.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if body.startswith(b"]\0\0") and len(body) > 13 and (body[5:13] == b"\xff" * 8 or body[9:13] == b"\0" * 4):
        return "lzma"
    return "tar" if body[257:262] == _USTAR else None


class _Decoder(Protocol):
    """What `bz2` and `lzma` have, and `_Inflate` gives for `zlib`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflate:
    """`zlib` with the interface of the other two."""

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


# How each compressed stream begins, and what reads it with so much memory for a dictionary.
_STREAMS: dict[str, tuple[bytes, Callable[[int], _Decoder]]] = {
    "gzip": (b"\x1f\x8b\x08", lambda _: _Inflate(31)),
    "bz2": (b"BZh", lambda _: bz2.BZ2Decompressor()),
    "xz": (b"\xfd7zXZ\0", lambda memory: lzma.LZMADecompressor(lzma.FORMAT_XZ, memory)),
    "lzma": (b"", lambda memory: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memory)),
    "deflate": (b"", lambda _: _Inflate(-15)),
}


class _Source(Protocol):
    """Bytes that are read once."""

    def read(self, size: int) -> bytes:
        """So many; fewer at the end alone."""


class _Stored:
    """Bytes as they are."""

    def __init__(self, data: memoryview, walk: _Walk) -> None:
        self._data, self._walk, self._at = data, walk, 0

    def read(self, size: int) -> bytes:
        piece = bytes(self._data[self._at : self._at + size])
        self._at += len(piece)
        self._walk.spend(len(piece))
        return piece


class _Unpacked:
    """What a compressed stream holds; several in a row are one."""

    def __init__(self, data: memoryview, kind: str, walk: _Walk) -> None:
        self._data, self._walk = data, walk
        self._magic, self._open = _STREAMS[kind]
        self._decoder = self._open(walk.limits.memory)
        self._at = self._given = self._read = 0
        self._buffer = b""

    def peek(self, size: int) -> bytes:
        """Its first bytes, which are read again."""
        while len(self._buffer) - self._read < size and (piece := self._more()):
            self._buffer, self._read = self._buffer[self._read :] + piece, 0
        return self._buffer[self._read : self._read + size]

    def read(self, size: int) -> bytes:
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
        """A piece of what it holds; none at the end."""
        try:
            while not self._ended():
                feed = bytes(self._data[self._at : self._at + _FEED]) if self._decoder.needs_input else b""
                self._at += len(feed)
                piece = self._decoder.decompress(feed, _PIECE)
                self._walk.spend(len(piece))
                self._given += len(piece)
                if self._given > _SMALL and self._given > self._at * self._walk.limits.ratio:
                    raise _Skip(Cut.RATIO)
                if piece:
                    return piece
                if not feed and not self._decoder.eof:
                    raise _Skip(Cut.DAMAGED)  # it ends before its end
        except MemoryError:
            raise _Skip(Cut.UNSUPPORTED) from None
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise _Skip(Cut.UNSUPPORTED if "emory" in str(error) else Cut.DAMAGED) from None
        return b""

    def _ended(self) -> bool:
        if not self._decoder.eof:
            return False
        self._at -= len(self._decoder.unused_data)
        if not self._magic or self._data[self._at : self._at + len(self._magic)] != self._magic:
            self._magic, self._at = b"", len(self._data)
            return True
        self._walk.count()
        self._decoder = self._open(self._walk.limits.memory)
        return False


_ENTRY = struct.Struct("<4s6H3L5H2L")  # of a zip's central directory
_ENCRYPTED, _MARKED, _UTF_8 = 0x1, 0x2, 0x800  # flags: it is; its lzma has an end mark; its name is UTF-8
_LONG = 0xFFFFFFFF  # the number stands in an extra field
_METHODS = {8: "deflate", 12: "bz2", 14: "lzma"}
_PAX_PATH = re.compile(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n")
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
# Entries of a tar without bytes after them, whatever their size says.
_BARE = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)


class _Walk:
    """One body's archives: what they cost so far, and how they are read."""

    def __init__(self, deadline: float, cut: set[Cut], limits: Limits) -> None:
        self.deadline, self.cut, self.limits = deadline, cut, limits
        self._bytes, self._members = limits.total, limits.members

    def count(self) -> None:
        """One more member, or what is as much work."""
        self._members -= 1
        if self._members < 0:
            raise _Over(Cut.MEMBERS)
        self.spend(0)

    def spend(self, size: int) -> None:
        """So many bytes were unpacked."""
        self._bytes -= size
        if self._bytes < 0:
            raise _Over(Cut.BYTES)
        if monotonic() >= self.deadline:
            raise _Over(Cut.TIME)

    def inside(self, body: bytes, kind: str, path: str, depth: int) -> Iterator[Member]:
        """The members of an archive that is called `path`."""
        try:
            if kind == "zip":
                yield from self._zip(body, path, depth)
            elif kind == "tar":
                yield from self._tar(_Stored(memoryview(body), self), path, depth)
            else:
                yield from self._stream(_Unpacked(memoryview(body), kind, self), kind, path, depth)
        except _Skip as skip:
            self.cut.add(skip.cut)

    def _file(self, body: bytes, path: str, depth: int) -> Iterator[Member]:
        kind = _kind(body)
        if not kind:
            if body:
                yield Member(path, body)
        elif depth == self.limits.depth:
            self.cut.add(Cut.DEPTH)
        else:
            yield from self.inside(body, kind, path, depth + 1)

    def _first(self, source: _Source, size: int) -> bytes:
        """So many bytes of a source, but not more than a member may have; fewer if there are fewer."""
        left = min(size, self.limits.member)
        data = io.BytesIO()  # it gives its bytes without a copy
        try:
            while left and (piece := source.read(min(left, _PIECE))):
                data.write(piece)
                left -= len(piece)
        except _Skip as skip:
            if skip.cut is not Cut.RATIO:
                raise
            self.cut.add(Cut.RATIO)  # what came before is as good as any
        return data.getvalue()

    def _stream(self, source: _Unpacked, kind: str, path: str, depth: int) -> Iterator[Member]:
        if source.peek(512)[257:262] == _USTAR:
            yield from self._tar(source, path, depth)
            return
        self.count()
        body = self._first(source, sys.maxsize)
        if len(body) == self.limits.member and source.peek(1):
            self.cut.add(Cut.BYTES)
        ending = next((ending for ending in _ENDINGS if path.lower().endswith(ending)), "")
        yield from self._file(body, path[: len(path) - len(ending)] or kind, depth)

    def _tar(self, source: _Source, path: str, depth: int) -> Iterator[Member]:
        name = ""
        while (block := source.read(512)).strip(b"\0"):
            self.count()
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
            except (tarfile.HeaderError, ValueError, OverflowError):
                raise _Skip(Cut.DAMAGED) from None
            size = 0 if info.type in _BARE else info.size
            if size < 0 or info.type == tarfile.GNUTYPE_SPARSE:
                raise _Skip(Cut.UNSUPPORTED if size >= 0 else Cut.DAMAGED)
            if info.type in _LONG_NAMES and size <= _LONG_NAME:
                data = _exactly(source, size)
                found = _PAX_PATH.search(data)
                text = data.split(b"\0")[0] if info.type == tarfile.GNUTYPE_LONGNAME else found[1] if found else b""
                name = text.decode("utf-8", "replace") or name
            elif info.isreg():
                body = self._first(source, size)
                if len(body) == self.limits.member < size:
                    self.cut.add(Cut.BYTES)
                _pass_over(source, size - len(body))
                yield from self._file(body, _joined(path, name or info.name), depth)
                name = ""
            else:
                _pass_over(source, size)
                if info.type in _BARE:
                    name = ""
            _pass_over(source, -size % 512)

    def _zip(self, body: bytes, path: str, depth: int) -> Iterator[Member]:
        at, end, shift = _directory(body)
        packed = 0
        while at + _ENTRY.size <= end:
            self.count()
            signature, _, _, flags, method, _, _, crc, size, full, *lengths, _, _, _, offset = _ENTRY.unpack_from(
                body, at
            )
            if signature != b"PK\x01\x02":
                raise _Skip(Cut.DAMAGED)
            names = at + _ENTRY.size
            extra = names + lengths[0]
            name = _zip_name(body[names : min(extra, names + 4 * MAX_NAME)], flags)
            at = extra + lengths[1] + lengths[2]
            if name.endswith("/"):
                continue
            try:
                full, size, offset = _long_fields(body[extra : extra + lengths[1]], full, size, offset)
                packed += size
                if packed > len(body):
                    raise _Skip(Cut.RATIO)  # entries that share their bytes
                source = self._entry(body, offset + shift, size, full, method, flags)
                data = self._first(source, sys.maxsize)
                if len(data) == self.limits.member and source.read(1):
                    self.cut.add(Cut.BYTES)
                elif len(data) == full and zlib.crc32(data) != crc:
                    raise _Skip(Cut.DAMAGED)
            except _Skip as skip:
                self.cut.add(skip.cut)
                continue
            yield from self._file(data, _joined(path, name), depth)
        if at != end:
            raise _Skip(Cut.DAMAGED)

    def _entry(self, body: bytes, at: int, size: int, full: int, method: int, flags: int) -> _Source:
        if flags & _ENCRYPTED:
            raise _Skip(Cut.ENCRYPTED)
        if body[at : at + 4] != b"PK\x03\x04" or len(body) < at + 30:
            raise _Skip(Cut.DAMAGED)
        at += 30 + sum(struct.unpack_from("<2H", body, at + 26))
        data = memoryview(body)[at : at + size]
        if len(data) < size:
            raise _Skip(Cut.DAMAGED)
        if method == 0:
            return _Stored(data, self)
        if method not in _METHODS:
            raise _Skip(Cut.UNSUPPORTED)
        if (
            method == 14
        ):  # version, length of the properties, properties: as the head of an .lzma file it has a limit on memory
            length = b"\xff" * 8 if flags & _MARKED else full.to_bytes(8, "little")
            data = memoryview(bytes(data[4:9]) + length + bytes(data[9:]))
        return _Unpacked(data, _METHODS[method], self)


def _directory(body: bytes) -> tuple[int, int, int]:
    """Where a zip's central directory begins and ends, and how far from where its offsets say."""
    end = body.rfind(b"PK\x05\x06", max(0, len(body) - 22 - 65535))
    if end < 0 or len(body) < end + 22:
        raise _Skip(Cut.DAMAGED)
    size, offset = struct.unpack_from("<2L", body, end + 12)
    locator = end - 20
    if locator >= 0 and body.startswith(b"PK\x06\x07", locator):
        (end,) = struct.unpack_from("<Q", body, locator + 8)
        if end + 56 > locator or not body.startswith(b"PK\x06\x06", end):
            raise _Skip(Cut.DAMAGED)
        size, offset = struct.unpack_from("<2Q", body, end + 40)
    start = end - size
    if start < offset:
        raise _Skip(Cut.DAMAGED)
    return start, end, start - offset


def _long_fields(extra: bytes, *fields: int) -> list[int]:
    """Sizes and offset of an entry, those that do not fit into 32 bits from its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            longs = iter(struct.unpack_from(f"<{min(size, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return [next(longs, field) if field == _LONG else field for field in fields]
        at += 4 + size
    return list(fields)


def _zip_name(name: bytes, flags: int) -> str:
    if not flags & _UTF_8:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            return name.decode("cp437")
    return name.decode("utf-8", "replace")


def _joined(path: str, name: str) -> str:
    name = name.removeprefix("./")[-MAX_NAME:]
    return f"{path}!{name}" if path else name


def _exactly(source: _Source, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise _Skip(Cut.DAMAGED)
    return data


def _pass_over(source: _Source, size: int) -> None:
    while size > 0:
        size -= len(_exactly(source, min(size, _PIECE)))
