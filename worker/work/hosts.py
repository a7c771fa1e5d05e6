"""Host limits: a maximum of parallel fetches per host, and a circuit breaker that pauses unreachable hosts.

All workers share the circuit breaker (Nygard, "Release It!", 2007) through the ledger, and learn of a change within a second. It
releases missions without counting an attempt, so that a dead host blocks no other missions. It counts each scheme, host and port
separately. A fetch that the mission's own limits cut short does not count. An egress proxy that opens no tunnel to any host is
paused in the same way, and its failures pause no host.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from mission.errors import LedgerUnavailable, MissionFailed
from mission.model import Reason
from mission.store.ledger import Ledger
from mission.url import MissionUrl
from worker.fetch.fetcher import Reach, Visit

log = logging.getLogger("decoder.hosts")

# This many attempts in a row that do not reach a host pause it for PAUSE_SECONDS; then one probe is allowed. Meanwhile its missions
# wait in the ledger, and return when the host has been reached.
FAILURES_TO_PAUSE = 5
PAUSE_SECONDS = 20.0
# A mission whose host is busy returns when its turn is expected, within MIN_WAIT_SECONDS and MAX_WAIT_SECONDS.
MIN_WAIT_SECONDS = 0.5
# If its turn is expected within this time, it waits in the worker instead.
PATIENCE_SECONDS = 0.25
MAX_WAIT_SECONDS = 30.0
# The egress proxy's name in the ledger: if it opens no tunnel to any host, it is paused like a host. All proxies share this name, so
# that missions that wait for a broken proxy continue with its replacement.
WAY_OUT = "way-out"
_FIRST_GUESS_SECONDS = 0.05
_MAX_HOSTS = 1024
_MEMORY = 0.8


class PutOff(MissionFailed):
    """The host has no free slot or is paused, or the egress proxy is paused. `host` is the name that the mission waits for."""

    def __init__(self, reason: Reason, host: str, retry_after: float) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.host = host


def name_of(url: MissionUrl) -> str:
    """The ledger's name for a URL's host: a hash that reveals neither scheme, host nor port."""
    return hashlib.sha256(url.origin.encode()).hexdigest()[:32]


@dataclass(slots=True)
class _Line:
    """Missions that wait for a slot at a host. `turn` is the expected turn of the next postponed mission."""

    freed: threading.Condition
    waiting: int = 0
    turn: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Host:
    """What this worker knows about a host. Urgent missions have their own line: while both lines have waiting missions, they alternate."""

    urgent: _Line
    others: _Line
    last: _Line  # the line that had the last turn
    busy: int = 0
    usual_seconds: float = _FIRST_GUESS_SECONDS
    moved: float = field(default_factory=time.monotonic)

    @classmethod
    def new(cls, lock: threading.Lock) -> Self:
        """Create a host without fetches; its lines wait for slots with this lock."""
        urgent, others = (_Line(threading.Condition(lock)) for _ in range(2))
        return cls(urgent, others, last=others)

    @property
    def in_use(self) -> bool:
        """Whether missions fetch from the host or wait for it."""
        return self.busy + self.urgent.waiting + self.others.waiting > 0

    def expected_seconds(self) -> float:
        """The expected duration of a fetch: the usual time, or the time since the last change if that is longer."""
        return max(self.usual_seconds, time.monotonic() - self.moved)

    def has_place(self, line: _Line, limit: int) -> bool:
        """Whether a mission of this line may take a slot."""
        other = self.others if line is self.urgent else self.urgent
        return self.busy < limit and not (other.waiting and line is self.last)

    def wake(self, limit: int) -> None:
        """Wake a waiting mission that may take a slot."""
        for line in (self.urgent, self.others):
            if line.waiting and self.has_place(line, limit):
                line.freed.notify()


class Hosts:
    """The slots at each host, and the circuit breaker. Shared by all threads of a worker."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger = ledger
        self._limit = limit
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._paused: dict[str, float] = {}  # hosts in trouble, as in `Ledger.hosts`, on the monotonic clock

    def refresh(self) -> None:
        """Read from the ledger which hosts are paused.

        Raises:
            LedgerUnavailable: Redis does not answer; the previous state stays in use.
        """
        now = time.monotonic()
        paused = {host: now + seconds for host, seconds in self._ledger.hosts().items()}
        with self._lock:
            self._paused = paused

    @contextmanager
    def slot(self, url: MissionUrl, submitter: str, *, urgent: bool = False) -> Iterator[Visit]:
        """Hold one of the host's slots while the block fetches from it or follows its redirects.

        The visit's result at the end of the block counts once, however many tries it includes.

        Args:
            url: the URL to fetch.
            submitter: the mission's submitter.
            urgent: whether it waits in the line of urgent missions.

        Raises:
            PutOff: the host is busy or paused, or the egress proxy is paused; the mission returns later.
        """
        name = name_of(url)
        way_probe = self._check_pause(WAY_OUT, Reason.PROXY_FAILED)
        try:
            probe = self._check_pause(name, Reason.HOST_PAUSED)
            self._enter(name, urgent=urgent)
        except PutOff:
            if way_probe:
                self._unprobed(WAY_OUT)
            raise
        started, visit = time.monotonic(), Visit()
        try:
            yield visit
        finally:
            self._leave(name, time.monotonic() - started)
            self._learnt(WAY_OUT, visit.way_out, submitter, probe=way_probe)
            self._learnt(name, visit.reach, submitter, probe=probe)

    def _learnt(self, name: str, reach: Reach, submitter: str, *, probe: bool) -> None:
        if reach is Reach.UNREACHED:
            self._failed(name, submitter)
        elif reach is Reach.REACHED:
            self._reached(name)
        elif probe:
            self._unprobed(name)

    def _check_pause(self, name: str, reason: Reason) -> bool:
        """Whether this fetch is the probe after a pause; raises PutOff with this reason while the pause lasts."""
        until = self._paused.get(name)
        if until is None or until == -math.inf:
            return False
        if time.monotonic() >= until:
            with suppress(LedgerUnavailable):
                if self._ledger.host_probe(name, PAUSE_SECONDS):
                    return True
        raise PutOff(reason, name, 0.0)

    def _enter(self, name: str, *, urgent: bool) -> None:
        with self._lock:
            host = self._host(name)
            line = host.urgent if urgent else host.others
            if not host.has_place(line, self._limit) and not self._turn_comes(host, line):
                raise PutOff(Reason.HOST_BUSY, name, self._put_off(host, line))
            if not host.busy:
                host.moved = time.monotonic()
            host.busy += 1
            host.last = line
            host.wake(self._limit)  # the other line, if two slots became free at once

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= _MAX_HOSTS:
                idle = (known for known, host in self._hosts.items() if not host.in_use)
                self._hosts.pop(next(idle, name), None)
            self._hosts[name] = _Host.new(self._lock)
        return self._hosts[name]

    def _turn_comes(self, host: _Host, line: _Line) -> bool:
        """Wait for a slot if one is expected soon; the mission holds its fetch slot meanwhile."""
        if (line.waiting + 1) * host.expected_seconds() / self._limit > PATIENCE_SECONDS:
            return False
        line.waiting += 1
        try:
            return line.freed.wait_for(lambda: host.has_place(line, self._limit), PATIENCE_SECONDS)
        finally:
            line.waiting -= 1

    def _put_off(self, host: _Host, line: _Line) -> float:
        """The seconds until a postponed mission returns: each one of a line after the one before, at the host's own speed."""
        now = time.monotonic()
        line.turn = max(line.turn, now) + host.expected_seconds() / self._limit
        wait = line.turn - now
        if wait > MAX_WAIT_SECONDS:
            return random.uniform(MAX_WAIT_SECONDS / 2, MAX_WAIT_SECONDS)  # noqa: S311 (jitter)
        return max(MIN_WAIT_SECONDS, wait)

    def _leave(self, name: str, seconds: float) -> None:
        with self._lock:
            host = self._hosts[name]
            host.busy -= 1
            host.wake(self._limit)
            host.moved = time.monotonic()
            host.usual_seconds = _MEMORY * host.usual_seconds + (1 - _MEMORY) * seconds

    def _failed(self, name: str, submitter: str) -> None:
        now = time.monotonic()
        with suppress(LedgerUnavailable):
            paused = self._ledger.host_failed(name, submitter, FAILURES_TO_PAUSE, PAUSE_SECONDS)
            if paused:
                log.warning(
                    "%s paused for %g s: it was not reached %d times in a row",
                    "egress proxy" if name == WAY_OUT else "host",
                    PAUSE_SECONDS,
                    FAILURES_TO_PAUSE,
                )
            # Known here at once, not after the next refresh: the next success must find failures to reset.
            until = now + PAUSE_SECONDS if paused else -math.inf
            with self._lock:
                self._paused = {**self._paused, name: until}

    def _unprobed(self, name: str) -> None:
        """Allow another probe at once, since the mission's own limits ended this one."""
        with suppress(LedgerUnavailable):
            self._ledger.host_unprobed(name)

    def _reached(self, name: str) -> None:
        if name in self._paused:
            with suppress(LedgerUnavailable):
                self._ledger.host_reached(name)
            with self._lock:
                self._paused = {host: until for host, until in self._paused.items() if host != name}
