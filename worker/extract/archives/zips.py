"""Zip files, including Office documents and jars.

This module reads the headers itself, because `zipfile` keeps an object for each entry and decompresses bz2 and lzma without a limit.
Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mission.model import Cut
from worker.extract.archives.bounds import MAX_NAME, Bounds, Skip
from worker.extract.archives.streams import Source, Stored, Unpacked

_ENTRY = struct.Struct("<4s6H3L5H2L")  # of a zip's central directory
_ENCRYPTED, _MARKED, _UTF_8 = 0x1, 0x2, 0x800  # flags: encrypted; its lzma has an end mark; its name is UTF-8
_LONG = 0xFFFFFFFF  # the number is in an extra field
_STORED, _METHODS = 0, {8: "deflate", 12: "bz2", 14: "lzma"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a zip.

    Attributes:
        name: from the central directory.
        source: its bytes.
        size: their number, from the central directory.
        crc: their CRC-32.
    """

    name: str
    source: Source = field(repr=False)
    size: int
    crc: int


def entries(body: bytes, bounds: Bounds, cut: set[Cut]) -> Iterator[Entry]:
    """The files of a zip, from its central directory.

    Args:
        body: the zip.
        bounds: limits on its cost.
        cut: receives the reason for each file that cannot be read.

    Raises:
        Skip: the rest of the zip is damaged.
    """
    at, end, shift = _directory(body)
    packed = 0
    while at + _ENTRY.size <= end:
        bounds.count()
        signature, _, _, flags, method, _, _, crc, size, full, *lengths, _, _, _, offset = _ENTRY.unpack_from(body, at)
        if signature != b"PK\x01\x02":
            raise Skip(Cut.DAMAGED)
        names = at + _ENTRY.size
        extra = names + lengths[0]
        name = _decoded(body[names : min(extra, names + 4 * MAX_NAME)], flags)
        at = extra + lengths[1] + lengths[2]
        if name.endswith("/"):
            continue
        try:
            full, size, offset = _long_fields(body[extra : extra + lengths[1]], full, size, offset)
            packed += size
            if packed > len(body):
                raise Skip(Cut.RATIO)  # entries share bytes
            source = _source(body, offset + shift, size, full, method, flags, bounds)
        except Skip as skip:
            cut.add(skip.cut)
            continue
        yield Entry(name, source, full, crc)
    if at != end:
        raise Skip(Cut.DAMAGED)


def _source(body: bytes, at: int, size: int, full: int, method: int, flags: int, bounds: Bounds) -> Source:
    if flags & _ENCRYPTED:
        raise Skip(Cut.ENCRYPTED)
    if body[at : at + 4] != b"PK\x03\x04" or len(body) < at + 30:
        raise Skip(Cut.DAMAGED)
    at += 30 + sum(struct.unpack_from("<2H", body, at + 26))
    data = memoryview(body)[at : at + size]
    if len(data) < size:
        raise Skip(Cut.DAMAGED)
    if method == _STORED:
        return Stored(data, bounds)
    if method not in _METHODS:
        raise Skip(Cut.UNSUPPORTED)
    if _METHODS[method] == "lzma":
        # Turn the version, length and properties into the header of an .lzma file, for which memory has a limit.
        length = b"\xff" * 8 if flags & _MARKED else full.to_bytes(8, "little")
        data = memoryview(bytes(data[4:9]) + length + bytes(data[9:]))
    return Unpacked(data, _METHODS[method], bounds)


def _directory(body: bytes) -> tuple[int, int, int]:
    """Where a zip's central directory begins and ends, and by how many bytes its offsets are off."""
    end = body.rfind(b"PK\x05\x06", max(0, len(body) - 22 - 65535))
    if end < 0 or len(body) < end + 22:
        raise Skip(Cut.DAMAGED)
    size, offset = struct.unpack_from("<2L", body, end + 12)
    locator = end - 20
    if locator >= 0 and body.startswith(b"PK\x06\x07", locator):
        (end,) = struct.unpack_from("<Q", body, locator + 8)
        if end + 56 > locator or not body.startswith(b"PK\x06\x06", end):
            raise Skip(Cut.DAMAGED)
        size, offset = struct.unpack_from("<2Q", body, end + 40)
    start = end - size
    if start < offset:
        raise Skip(Cut.DAMAGED)
    return start, end, start - offset


def _long_fields(extra: bytes, *fields: int) -> list[int]:
    """The sizes and the offset of an entry; those that do not fit into 32 bits come from its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            longs = iter(struct.unpack_from(f"<{min(size, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return [next(longs, field) if field == _LONG else field for field in fields]
        at += 4 + size
    return list(fields)


def _decoded(name: bytes, flags: int) -> str:
    if not flags & _UTF_8:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            return name.decode("cp437")
    return name.decode("utf-8", "replace")
