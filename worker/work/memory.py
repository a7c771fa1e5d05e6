"""The process' memory: what it may use, what a configuration takes at worst, and who may use how much of it now.

A worker is sized for its worst case: what it takes by itself, a slot for each fetch, and room for large documents, which are
as many as fit. A small document works within its slot and waits for nothing. One that is larger, or whose decoder takes much
by itself, takes its share of the room once, before it is read; it never needs more, so whoever has a share ends without
another's. The figures are measured: `tests/integration/test_memory_limit.py`.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from mission.units import format_size
from worker.extract.apart import CHILD_BYTES
from worker.extract.detectors import MARKER
from worker.fetch.fetcher import FREE_BYTES
from worker.settings import URGENT_FETCHES, WorkerSettings
from worker.work import cgroup

MIB = 1024**2

# Where neither setting nor cgroup says how much it may be: what the chart gives a worker.
DEFAULT_BYTES = 1024 * MIB
# An idle worker, with its threads and connections: seen 78 MiB at 32 fetches, and 422 of 1,006 MiB in a flood of hostile documents.
BASE_BYTES = 144 * MIB
# Compiled rules: the catalog of providers with the generic ones (seen 65 MiB), and each file of the user's.
RULES_BYTES = 72 * MIB
PACK_BYTES = 48 * MIB
# Bytes for each byte of a document: its body (1), and its text, which is widened from 2 to 4 bytes a character in one go (6).
PER_BYTE = 8
# What 10,000 secrets take beside it, from their objects to the sealed record.
SECRETS_BYTES = 10 * MIB
# So many secrets fit into a slot.
FREE_SECRETS = 500
# A document that is free of waiting, buffers, the objects of 10,000 secrets, and a record that the ledger is not told of yet.
SLOT_BYTES = PER_BYTE * FREE_BYTES + 7 * MIB
# A fetch slot is too dear to wait in for long.
PATIENCE_SECONDS = 5.0
RETURN_SECONDS = (1.0, 10.0)

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>


def limit(settings: WorkerSettings) -> int:
    """The bytes that this process may use: the setting, but no more than its cgroup has; `DEFAULT_BYTES` with neither."""
    known = [most for most in (settings.memory, cgroup.memory_limit()) if most]
    return min(known, default=DEFAULT_BYTES)


def largest(settings: WorkerSettings) -> int:
    """What one of the largest documents takes of the room, in bytes."""
    return of_document(settings.max_bytes)


def fixed(settings: WorkerSettings) -> int:
    """What is taken whatever documents come: by the process itself, by its slots, and by one suspect's extraction, in bytes."""
    rules = RULES_BYTES * (settings.detectors != (MARKER,)) + PACK_BYTES * len(settings.rules)
    return BASE_BYTES + (settings.concurrency + URGENT_FETCHES) * SLOT_BYTES + CHILD_BYTES + 2 * rules


def worst_case(settings: WorkerSettings) -> int:
    """The most that this configuration takes, in bytes, with as many of the largest documents at once as fit and may be.

    Raises:
        SettingsError: not even one fits.
    """
    least, most = fixed(settings) + largest(settings), limit(settings)
    if least > most:
        fetches = (most - fixed(settings) - largest(settings)) // SLOT_BYTES + settings.concurrency
        size = ((most - fixed(settings) - SECRETS_BYTES) // PER_BYTE) // MIB
        ways = [f"DECODER_CONCURRENCY to {fetches}"] * (fetches > 0) + [f"DECODER_MAX_BYTES to {size}MiB"] * (size > 0)
        lower = f", or lower {' or '.join(ways)}" if ways else ""
        raise SettingsError(
            f"DECODER_MEMORY: {format_size(most // MIB * MIB)} is the limit here, and {settings.concurrency} fetches, an urgent one beside "
            f"them and one document of {format_size(settings.max_bytes)} take {-(-least // MIB)}MiB; raise it (and the cgroup's){lower}"
        )
    places = min((most - fixed(settings)) // largest(settings), settings.concurrency + URGENT_FETCHES)
    return fixed(settings) + places * largest(settings)


def give_back_at_once() -> None:
    """Have glibc give large blocks back to the system as soon as they are free; to be called before there are threads.

    By itself it keeps ever larger blocks, in up to 8 arenas for each core: after a flood of large documents the process would
    stay as large as it ever was, and what is counted here would not be what is used (mallopt(3)).
    """
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FREE_BYTES)
        mallopt(_M_ARENA_MAX, 2)


class Memory:
    """The room for large documents, in shares. One for the process.

    No submitter has all of it, where it holds more than one of the largest documents: one place is left for another's.

    Raises:
        SettingsError: the configuration does not fit into the limit.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        worst_case(settings)
        self._free = limit(settings) - fixed(settings)
        self._each = max(self._free - largest(settings), largest(settings))
        self._changed = threading.Condition()
        self._held: Counter[str] = Counter()
        self._waiting: list[Share] = []

    @contextmanager
    def share(self, submitter: str) -> Iterator[Share]:
        """What a mission of this submitter may take of the room; it is given back with the block."""
        share = Share(self, submitter)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, share: Share, size: int, seconds: float) -> bool:
        """Whether a share got its place within so many seconds. First come, first served, but for who has all that one may have."""
        with self._changed:
            share.wanted = size
            self._waiting.append(share)
            try:
                if not self._changed.wait_for(lambda: self._next() is share, seconds):
                    return False
                self._free -= size
                self._held[share.submitter] += size
                return True
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()

    def give_back(self, share: Share) -> None:
        """Take the share's place back."""
        with self._changed:
            self._free += share.size
            self._held[share.submitter] -= share.size
            if not self._held[share.submitter]:
                del self._held[share.submitter]
            self._changed.notify_all()

    def _next(self) -> Share | None:
        for share in self._waiting:
            if self._held[share.submitter] + share.wanted <= self._each:
                return share if share.wanted <= self._free else None
        return None


class Share:
    """What one mission has of the room: nothing, until it needs it."""

    __slots__ = ("_memory", "size", "submitter", "wanted")

    def __init__(self, memory: Memory, submitter: str) -> None:
        self._memory = memory
        self.submitter = submitter
        self.size = 0
        self.wanted = 0

    def for_document(self, size: int, deadline: float) -> None:
        """Take what a document of so many bytes needs to its end; a second time only where the first was for a smaller one.

        Args:
            size: of the document, in bytes, at most.
            deadline: the fetch's, on the monotonic clock.

        Raises:
            MissionFailed: there was no room in time (`memory_busy`).
        """
        self._take(of_document(size), deadline)

    def for_secrets(self, count: int, deadline: float) -> None:
        """The same for so many secrets, where they are more than fit into a slot."""
        if count > FREE_SECRETS:
            self._take(SECRETS_BYTES, deadline)

    def give_back(self) -> None:
        """Give back what was taken."""
        if self.size:
            self._memory.give_back(self)
            self.size = 0

    def _take(self, size: int, deadline: float) -> None:
        if size <= self.size:
            return
        self.give_back()  # of a try that failed: who waits has nothing that another one waits for
        if not self._memory.take(self, size, min(PATIENCE_SECONDS, deadline - monotonic())):
            raise MissionFailed(Reason.MEMORY_BUSY, retry_after=random.uniform(*RETURN_SECONDS))  # noqa: S311 (jitter)
        self.size = size


def of_document(size: int) -> int:
    """What a document of so many bytes takes, with its secrets, in bytes."""
    return PER_BYTE * size + SECRETS_BYTES
