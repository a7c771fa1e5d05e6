"""Limits on unpacking a body, and the amounts used so far."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from mission.model import Cut

MAX_NAME = 255  # characters of one name in a path


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for unpacking one body. Up to `depth` members are in memory at once, and one more copy of the last.

    Attributes:
        total: unpacked bytes in all, including skipped ones.
        member: bytes of one member; a longer one is cut to this size.
        members: members of all archives together, including folders.
        depth: levels of nested archives; a compressed tar is one level.
        ratio: of unpacked to packed bytes, for streams that unpack to more than 1 MiB.
        memory: bytes that an lzma dictionary may take.
    """

    total: int = 64 * 1024**2
    member: int = 10 * 1024**2
    members: int = 20_000
    depth: int = 3
    ratio: int = 200
    memory: int = 20 * 1024**2


class Over(Exception):
    """A limit for the whole body was reached."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut


class Skip(Exception):
    """A member, or the rest of an archive, cannot be read."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut


class Bounds:
    """The remaining amounts of a body's limits.

    Args:
        deadline: on the monotonic clock.
        limits: for the body.
    """

    def __init__(self, deadline: float, limits: Limits) -> None:
        self.limits = limits
        self._deadline, self._bytes, self._members = deadline, limits.total, limits.members

    def count(self) -> None:
        """Count one more member, or equal work."""
        self._members -= 1
        if self._members < 0:
            raise Over(Cut.MEMBERS)
        self.spend(0)

    def spend(self, size: int) -> None:
        """Count unpacked bytes."""
        self._bytes -= size
        if self._bytes < 0:
            raise Over(Cut.BYTES)
        if monotonic() >= self._deadline:
            raise Over(Cut.TIME)
