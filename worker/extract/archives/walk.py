"""Yields the files in a body's archives, including nested archives.

`tarfile.TarInfo` reads the headers of a tar, because `tarfile` itself accepts PAX headers of any length.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mission.model import Cut
from worker.extract.archives.bounds import MAX_NAME, Bounds, Skip
from worker.extract.archives.streams import PIECE_BYTES, Source, Stored, Unpacked, exactly, pass_over
from worker.extract.archives.zips import entries

_LONG_NAME = 64 * 1024  # bytes of a tar's header for a long name
_USTAR = b"ustar"
_ENDINGS = (".gz", ".bz2", ".xz", ".lzma")
_PAX_PATH = re.compile(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n")
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
# Entries of a tar without bytes after them, whatever their size says.
_BARE = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        path: its name, after the names of the archives around it, each with a `!`: `app/.env`, `inner.zip!app/.env`. The body itself
            has no name. The content of a compressed stream has the stream's name without the ending: `a.log` for `a.log.gz`. If the
            body itself is a compressed stream, the name is its format: `gzip`, `bz2`, `xz`, `lzma`. A compressed tar counts as a tar.
            Names are untrusted: only the last `MAX_NAME` characters of each are kept, and they can contain control characters. Never
            write to them as paths.
        body: its bytes.
    """

    path: str
    body: bytes = field(repr=False)


def kind_of(body: bytes) -> str | None:
    """The kind of archive that a body begins as; None if it is no archive."""
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


class Walk:
    """Reads the archives of one body, within its limits."""

    def __init__(self, bounds: Bounds, cut: set[Cut]) -> None:
        self._bounds, self._limits, self._cut = bounds, bounds.limits, cut

    def inside(self, body: bytes, kind: str, path: str, depth: int) -> Iterator[Member]:
        """The members of the archive at `path`."""
        try:
            if kind == "zip":
                yield from self._zip(body, path, depth)
            elif kind == "tar":
                yield from self._tar(Stored(memoryview(body), self._bounds), path, depth)
            else:
                yield from self._stream(Unpacked(memoryview(body), kind, self._bounds), kind, path, depth)
        except Skip as skip:
            self._cut.add(skip.cut)

    def _file(self, body: bytes, path: str, depth: int) -> Iterator[Member]:
        kind = kind_of(body)
        if not kind:
            if body:
                yield Member(path, body)
        elif depth == self._limits.depth:
            self._cut.add(Cut.DEPTH)
        else:
            yield from self.inside(body, kind, path, depth + 1)

    def _first(self, source: Source, size: int) -> bytes:
        """Up to `size` bytes of a source, within the limit for a member."""
        left = min(size, self._limits.member)
        data = io.BytesIO()  # returns its bytes without a copy
        try:
            while left and (piece := source.read(min(left, PIECE_BYTES))):
                data.write(piece)
                left -= len(piece)
        except Skip as skip:
            if skip.cut is not Cut.RATIO:
                raise
            self._cut.add(Cut.RATIO)  # the bytes before are still valid
        return data.getvalue()

    def _stream(self, source: Unpacked, kind: str, path: str, depth: int) -> Iterator[Member]:
        if source.peek(512)[257:262] == _USTAR:
            yield from self._tar(source, path, depth)
            return
        self._bounds.count()
        body = self._first(source, sys.maxsize)
        if len(body) == self._limits.member and source.peek(1):
            self._cut.add(Cut.BYTES)
        ending = next((ending for ending in _ENDINGS if path.lower().endswith(ending)), "")
        yield from self._file(body, path[: len(path) - len(ending)] or kind, depth)

    def _tar(self, source: Source, path: str, depth: int) -> Iterator[Member]:
        name = ""
        while (block := source.read(512)).strip(b"\0"):
            self._bounds.count()
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
            except (tarfile.HeaderError, ValueError, OverflowError):
                raise Skip(Cut.DAMAGED) from None
            size = 0 if info.type in _BARE else info.size
            if size < 0 or info.type == tarfile.GNUTYPE_SPARSE:
                raise Skip(Cut.UNSUPPORTED if size >= 0 else Cut.DAMAGED)
            if info.type in _LONG_NAMES and size <= _LONG_NAME:
                data = exactly(source, size)
                found = _PAX_PATH.search(data)
                text = data.split(b"\0")[0] if info.type == tarfile.GNUTYPE_LONGNAME else found[1] if found else b""
                name = text.decode("utf-8", "replace") or name
            elif info.isreg():
                body = self._first(source, size)
                if len(body) == self._limits.member < size:
                    self._cut.add(Cut.BYTES)
                pass_over(source, size - len(body))
                yield from self._file(body, _joined(path, name or info.name), depth)
                name = ""
            else:
                pass_over(source, size)
                if info.type in _BARE:
                    name = ""
            pass_over(source, -size % 512)

    def _zip(self, body: bytes, path: str, depth: int) -> Iterator[Member]:
        for entry in entries(body, self._bounds, self._cut):
            try:
                data = self._first(entry.source, sys.maxsize)
                if len(data) == self._limits.member and entry.source.read(1):
                    self._cut.add(Cut.BYTES)
                elif len(data) == entry.size and zlib.crc32(data) != entry.crc:
                    raise Skip(Cut.DAMAGED)
            except Skip as skip:
                self._cut.add(skip.cut)
                continue
            yield from self._file(data, _joined(path, entry.name), depth)


def _joined(path: str, name: str) -> str:
    name = name.removeprefix("./")[-MAX_NAME:]
    return f"{path}!{name}" if path else name
