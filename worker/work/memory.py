"""The process' memory: its limit, the worst case of a configuration, and the shares of missions.

A worker is sized for its worst case: its own memory, a slot for each fetch, and room for as many large documents as fit. A small
document fits into its slot and waits for nothing. A larger one, or one whose decoder needs much memory, takes its share of
the room once, before it is read. It never needs more, so a mission with a share never waits for another's. The figures are
measured: `tests/integration/test_memory_limit.py`.
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

# The limit without a setting or a cgroup limit: the chart's limit for a worker.
DEFAULT_BYTES = 1024 * MIB
# An idle worker with its threads and connections: measured 78 MiB at 32 fetches, and 422 of 1,006 MiB in a flood of hostile documents.
BASE_BYTES = 144 * MIB
# Compiled rules: the catalog of providers with the generic rules (measured 65 MiB), and each of the user's files.
RULES_BYTES = 72 * MIB
PACK_BYTES = 48 * MIB
# Memory for each byte of a document: its body (1), and its text, which Python widens from 2 to 4 bytes a character in one step (6).
PER_BYTE = 8
# Additional memory for 10,000 secrets, from their objects to the sealed record.
SECRETS_BYTES = 10 * MIB
# The number of secrets that fit into a slot.
FREE_SECRETS = 500
# A small document, buffers, the objects of 10,000 secrets, and a record that is not yet in the ledger.
SLOT_BYTES = PER_BYTE * FREE_BYTES + 7 * MIB
# A fetch slot is too expensive for a long wait.
PATIENCE_SECONDS = 5.0
RETURN_SECONDS = (1.0, 10.0)

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>


def limit(settings: WorkerSettings) -> int:
    """The bytes that this process may use: the setting or its cgroup's limit, whichever is lower; `DEFAULT_BYTES` without both."""
    known = [most for most in (settings.memory, cgroup.memory_limit()) if most]
    return min(known, default=DEFAULT_BYTES)


def largest(settings: WorkerSettings) -> int:
    """The room for one document of the maximum size, in bytes."""
    return of_document(settings.max_bytes)


def fixed(settings: WorkerSettings) -> int:
    """The memory that any load needs, in bytes: the process itself, its slots, and the extraction of one suspect."""
    rules = RULES_BYTES * (settings.detectors != (MARKER,)) + PACK_BYTES * len(settings.rules)
    return BASE_BYTES + (settings.concurrency + URGENT_FETCHES) * SLOT_BYTES + CHILD_BYTES + 2 * rules


def worst_case(settings: WorkerSettings) -> int:
    """The maximum memory of this configuration, in bytes, with as many documents of the maximum size as fit and are allowed.

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
            f"DECODER_MEMORY: {format_size(most // MIB * MIB)} is the limit here, but {settings.concurrency} fetches, an urgent fetch "
            f"and one document of {format_size(settings.max_bytes)} need {-(-least // MIB)}MiB; raise it (and the cgroup's){lower}"
        )
    places = min((most - fixed(settings)) // largest(settings), settings.concurrency + URGENT_FETCHES)
    return fixed(settings) + places * largest(settings)


def give_back_at_once() -> None:
    """Make glibc return large blocks to the system as soon as they are free; call it before any thread starts.

    By default, glibc keeps ever larger blocks, in up to 8 arenas for each core. After a flood of large documents the process
    would stay at its largest size, and the counts here would not match the memory in use (mallopt(3)).
    """
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, FREE_BYTES)
        mallopt(_M_ARENA_MAX, 2)


class Memory:
    """The room for large documents, in shares. One per process.

    If the room holds more than one document of the maximum size, no submitter gets all of it: space for one stays free for others.

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
        """A share of the room for a mission of this submitter; the end of the block releases it."""
        share = Share(self, submitter)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, share: Share, size: int, seconds: float) -> bool:
        """Wait up to `seconds` for a share; return whether it got its room. First come, first served, except for submitters at their limit."""
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
        """Release the share's room."""
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
    """The part of the room that one mission holds: nothing until it needs it."""

    __slots__ = ("_memory", "size", "submitter", "wanted")

    def __init__(self, memory: Memory, submitter: str) -> None:
        self._memory = memory
        self.submitter = submitter
        self.size = 0
        self.wanted = 0

    def for_document(self, size: int, deadline: float) -> None:
        """Take the room for a document until the mission's end; a second call adds room only if the document is larger.

        Args:
            size: the document's maximum size in bytes.
            deadline: the fetch's, on the monotonic clock.

        Raises:
            MissionFailed: there was no room in time (`memory_busy`).
        """
        self._take(of_document(size), deadline)

    def for_secrets(self, count: int, deadline: float) -> None:
        """Take the room for `count` secrets, if they do not fit into a slot."""
        if count > FREE_SECRETS:
            self._take(SECRETS_BYTES, deadline)

    def give_back(self) -> None:
        """Release the room."""
        if self.size:
            self._memory.give_back(self)
            self.size = 0

    def _take(self, size: int, deadline: float) -> None:
        if size <= self.size:
            return
        self.give_back()  # from a failed try: a waiting mission holds nothing that another one waits for
        if not self._memory.take(self, size, min(PATIENCE_SECONDS, deadline - monotonic())):
            raise MissionFailed(Reason.MEMORY_BUSY, retry_after=random.uniform(*RETURN_SECONDS))  # noqa: S311 (jitter)
        self.size = size


def of_document(size: int) -> int:
    """The room for a document of `size` bytes with its secrets, in bytes."""
    return PER_BYTE * size + SECRETS_BYTES
