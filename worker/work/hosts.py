"""Politeness to the other side: so many fetches at a time to one host, and a pause for a host that is not reached.

The breaker (Nygard, "Release It!", 2007) is shared by all workers through the ledger: what one learns, all know within a
second. It gives missions back without using up an attempt, so that one dead host starves nobody. It counts each scheme, host and
port by itself, and what a fetch had to say of the host: what a mission's own limits cut short says nothing. An egress proxy that opens
no way to anywhere is paused in the same manner, and no host for it.
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

# So many attempts in a row that did not reach the host pause it for so long; then one probe goes through. Its missions wait for the
# host meanwhile, in the ledger, and come back when it has been reached.
FAILURES_TO_PAUSE = 5
PAUSE_SECONDS = 20.0
# A mission that finds its host busy comes back when its turn is expected, within these bounds.
MIN_WAIT_SECONDS = 0.5
# It waits here instead where its turn is expected within this time.
PATIENCE_SECONDS = 0.25
MAX_WAIT_SECONDS = 30.0
# What the ledger calls the way out of here, where that is a proxy: one that opens no way to anywhere is paused like a host. It is one
# name for any proxy, so that missions which wait for a broken one go on with the next.
WAY_OUT = "way-out"
_FIRST_GUESS_SECONDS = 0.05
_MAX_HOSTS = 1024
_MEMORY = 0.8


class PutOff(MissionFailed):
    """The host has no place, or is left alone for a while; or the way out is. `host` is its name: the mission waits for it."""

    def __init__(self, reason: Reason, host: str, retry_after: float) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.host = host


def name_of(url: MissionUrl) -> str:
    """How the ledger names a URL's host: of scheme, host and port, it tells none."""
    return hashlib.sha256(url.origin.encode()).hexdigest()[:32]


@dataclass(slots=True)
class _Line:
    """Those who wait for a place at a host. `turn` is when the next one of those put off is expected to have its turn."""

    freed: threading.Condition
    waiting: int = 0
    turn: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Host:
    """What this worker knows of a host. The urgent have a line of their own: while missions wait in both, the lines take turns."""

    urgent: _Line
    others: _Line
    last: _Line  # whose turn it was
    busy: int = 0
    usual_seconds: float = _FIRST_GUESS_SECONDS
    moved: float = field(default_factory=time.monotonic)

    @classmethod
    def new(cls, lock: threading.Lock) -> Self:
        """One that nobody is at; its lines wait for places by this lock."""
        urgent, others = (_Line(threading.Condition(lock)) for _ in range(2))
        return cls(urgent, others, last=others)

    @property
    def in_use(self) -> bool:
        """Whether missions are there, or wait."""
        return self.busy + self.urgent.waiting + self.others.waiting > 0

    def expected_seconds(self) -> float:
        """How long a fetch takes here: as long as usual, or as nothing has come back by now."""
        return max(self.usual_seconds, time.monotonic() - self.moved)

    def has_place(self, line: _Line, limit: int) -> bool:
        """Whether one of this line may enter."""
        other = self.others if line is self.urgent else self.urgent
        return self.busy < limit and not (other.waiting and line is self.last)

    def wake(self, limit: int) -> None:
        """Have one enter that waits and may."""
        for line in (self.urgent, self.others):
            if line.waiting and self.has_place(line, limit):
                line.freed.notify()


class Hosts:
    """The places at each host, and the breaker. Shared by all threads of a worker."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger = ledger
        self._limit = limit
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._paused: dict[str, float] = {}  # hosts in trouble, as in `Ledger.hosts`, on the monotonic clock

    def refresh(self) -> None:
        """Learn what other workers found out.

        Raises:
            LedgerUnavailable: Redis does not answer; what was known stays.
        """
        now = time.monotonic()
        paused = {host: now + seconds for host, seconds in self._ledger.hosts().items()}
        with self._lock:
            self._paused = paused

    @contextmanager
    def slot(self, url: MissionUrl, submitter: str, *, urgent: bool = False) -> Iterator[Visit]:
        """Hold one of the host's places while the block fetches from it, or follows where it redirects to.

        What the visit says of the host when the block ends counts once, whatever was tried within.

        Args:
            url: where to.
            submitter: for whom.
            urgent: whether it waits for a place in the line of the urgent.

        Raises:
            PutOff: the host is busy or in trouble, or there is no way out, and the mission is to come back later.
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
        """Whether this fetch is the probe of what was paused; it is put off for this reason where it still is."""
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
            host.wake(self._limit)  # the other line, where two places came free at once

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= _MAX_HOSTS:
                idle = (known for known, host in self._hosts.items() if not host.in_use)
                self._hosts.pop(next(idle, name), None)
            self._hosts[name] = _Host.new(self._lock)
        return self._hosts[name]

    def _turn_comes(self, host: _Host, line: _Line) -> bool:
        """Wait for a place where one is expected soon: a fetch slot is held meanwhile."""
        if (line.waiting + 1) * host.expected_seconds() / self._limit > PATIENCE_SECONDS:
            return False
        line.waiting += 1
        try:
            return line.freed.wait_for(lambda: host.has_place(line, self._limit), PATIENCE_SECONDS)
        finally:
            line.waiting -= 1

    def _put_off(self, host: _Host, line: _Line) -> float:
        """For how many seconds a mission goes back to the ledger: each one of a line after the last, at the host's own speed."""
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
            # Known here at once, not with the next refresh: the next answer must find failures to forget.
            until = now + PAUSE_SECONDS if paused else -math.inf
            with self._lock:
                self._paused = {**self._paused, name: until}

    def _unprobed(self, name: str) -> None:
        """The probe's own limits ended it: another one may go at once."""
        with suppress(LedgerUnavailable):
            self._ledger.host_unprobed(name)

    def _reached(self, name: str) -> None:
        if name in self._paused:
            with suppress(LedgerUnavailable):
                self._ledger.host_reached(name)
            with self._lock:
                self._paused = {host: until for host, until in self._paused.items() if host != name}
