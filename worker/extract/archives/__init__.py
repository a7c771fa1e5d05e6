"""Archives in a body: gzip, bz2, xz, lzma, zip (also Office documents and jars) and tar, nested to depth 3.

The first bytes identify an archive, never a name or a content type. Everything is read in memory, in pieces, with a limit on all
untrusted sizes; no file is written.
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
    """Whether a body begins like an archive."""
    return kind_of(body) is not None


def looks_like_text(body: bytes) -> bool:
    """Whether it may be text: its first 4 KiB have no NUL and few other control characters, or it has a byte order mark of UTF-16 or 32."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return True
    head = body[:4096]
    odd = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" not in head and odd * 50 <= len(head)


def members(body: bytes, deadline: float, cut: set[Cut], limits: Limits = LIMITS) -> Iterator[Member]:
    """The non-empty files in an archive and in nested archives, in order. No files if the body is not an archive. Never fails.

    Args:
        body: the document.
        deadline: on the monotonic clock, checked between pieces.
        cut: gets a reason for every missing or incomplete member. Damaged members (also at their very end), encrypted or
            unsupported ones, and archives below `depth` are left out.
        limits: on the cost.
    """
    kind = kind_of(body)
    if kind:
        try:
            yield from Walk(Bounds(deadline, limits), cut).inside(body, kind, "", 1)
        except Over as over:
            cut.add(over.cut)
