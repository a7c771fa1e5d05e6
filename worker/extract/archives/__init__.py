"""What a body holds: gzip, bz2, xz, lzma, zip (Office documents and jars are zips) and tar, one in another to depth 3.

An archive is known by its first bytes, never by a name or a content type. Everything is read in memory, in pieces, with a bound on
whatever a stranger can choose; no file is written.
"""

from __future__ import annotations

from collections.abc import Iterator

from mission.model import Cut
from worker.extract.archives.bounds import MAX_NAME, Bounds, Limits, Over
from worker.extract.archives.walk import Member, Walk, kind_of

__all__ = ["MAX_NAME", "Limits", "Member", "is_archive", "looks_like_text", "members"]


LIMITS = Limits()
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\r\f\b\x1b")


def is_archive(body: bytes) -> bool:
    """Whether a body begins as an archive does."""
    return kind_of(body) is not None


def looks_like_text(body: bytes) -> bool:
    """Whether it can be a text: its first 4 KiB hold no NUL and hardly another control character, or it has a mark of UTF-16 or 32."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return True
    head = body[:4096]
    odd = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" not in head and odd * 50 <= len(head)


def members(body: bytes, deadline: float, cut: set[Cut], limits: Limits = LIMITS) -> Iterator[Member]:
    """The files in an archive and in those within it that are not empty, in their order. None if the body is no archive. Never fails.

    Args:
        body: the document.
        deadline: on the monotonic clock, looked at between pieces.
        cut: gets a word for whatever is not among the members, or not whole. Members that are damaged (also at their very end),
            encrypted or unsupported are left out; so are archives below `depth`.
        limits: of what it costs.
    """
    kind = kind_of(body)
    if kind:
        try:
            yield from Walk(Bounds(deadline, limits), cut).inside(body, kind, "", 1)
        except Over as over:
            cut.add(over.cut)
