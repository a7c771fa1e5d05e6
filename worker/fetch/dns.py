"""Name resolution within a strict time limit.

`getaddrinfo` uses the system's whole configuration (/etc/hosts, search lists, nsswitch), but cannot be interrupted.
So it runs in a bounded number of daemon threads, and a caller waits only for its time limit.
"""

from __future__ import annotations

import math
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Condition, Event, Thread
from time import monotonic

from mission.errors import MissionFailed
from mission.model import Reason
from worker.fetch.wire import Unreached, Wait

Addresses = tuple[IPv4Address | IPv6Address, ...]

FRESH_SECONDS = 5.0
MAX_REMEMBERED = 1024
IDLE_SECONDS = 60.0


def system_lookup(host: str, port: int) -> Sequence[str]:
    """The addresses that the system knows for a host, best first (RFC 6724).

    Raises:
        OSError: the host has no address, or the name server did not answer.
        UnicodeError: not a valid DNS name.
    """
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(slots=True, eq=False)
class _Lookup:
    """One look-up in progress, shared by all its callers."""

    host: str
    port: int
    waiting: int = 0
    taken_up: float = math.inf  # when a thread began it, on the monotonic clock
    answered: Event = field(default_factory=Event)
    addresses: Addresses = ()


class Resolver:
    """Resolves names for many threads: one look-up at a time for each host, shared by all its callers.

    It caches the most recent `MAX_REMEMBERED` answers for `FRESH_SECONDS`, because under load every fetch asks, mostly for
    the same few hosts. The policy checks the addresses on each use, cached or not. Failures are not cached.

    Args:
        lookup: from host and port to addresses as text; may raise any exception, and may take any time.
        threads: parallel look-ups. While all are stuck, `resolve` still ends in time.
    """

    def __init__(self, lookup: Callable[[str, int], Sequence[str]] = system_lookup, threads: int = 16) -> None:
        self._lookup = lookup
        self._limit = threads
        self._changed = Condition()
        self._threads = 0
        self._idle = 0
        self._queue: OrderedDict[str, _Lookup] = OrderedDict()
        self._asked: dict[str, _Lookup] = {}
        self._fresh: OrderedDict[str, tuple[float, Addresses]] = OrderedDict()

    def resolve(self, host: str, port: int, wait: Wait) -> Addresses:
        """All addresses of a host, at least one, in the system's order and without duplicates; not checked by the policy.

        Args:
            host: a name without a trailing dot.
            port: passed to the look-up.
            wait: the time limit.

        Raises:
            Unreached: `dns_failure`: no address, no valid answer, or no answer in time.
            MissionFailed: `deadline_exceeded` if the deadline cut the time short; `dns_failure` if the look-up waited for a
                thread most of the time: names with dead servers occupied all threads, which is not this host's fault.
        """
        with self._changed:
            if addresses := self._remembered(host):
                return addresses
            lookup = self._join(host, port)
        try:
            answered = lookup.answered.wait(wait.seconds)
        finally:
            with self._changed:
                self._leave(lookup)
        if lookup.addresses:
            return lookup.addresses
        if answered:
            raise Unreached(Reason.DNS_FAILURE)
        asked = monotonic() - lookup.taken_up > wait.seconds / 2
        raise wait.over(Reason.DNS_FAILURE, Unreached if asked else MissionFailed)

    def _join(self, host: str, port: int) -> _Lookup:
        lookup = self._asked.get(host)
        if lookup is None:
            lookup = self._asked[host] = self._queue[host] = _Lookup(host, port)
            self._start_thread()
            self._changed.notify()
        lookup.waiting += 1
        return lookup

    def _leave(self, lookup: _Lookup) -> None:
        """Remove a look-up that no thread has begun and no caller waits for: the queue keeps no leftovers."""
        lookup.waiting -= 1
        if not lookup.waiting and self._queue.get(lookup.host) is lookup:
            del self._queue[lookup.host]
            del self._asked[lookup.host]

    def _remembered(self, host: str) -> Addresses:
        until, addresses = self._fresh.get(host, (0.0, ()))
        return addresses if monotonic() < until else ()

    def _remember(self, host: str, addresses: Addresses) -> None:
        self._fresh[host] = (monotonic() + FRESH_SECONDS, addresses)
        self._fresh.move_to_end(host)
        if len(self._fresh) > MAX_REMEMBERED:
            self._fresh.popitem(last=False)

    def _start_thread(self) -> None:
        if self._idle < len(self._queue) and self._threads < self._limit:
            # Not concurrent.futures: the interpreter joins its threads at exit, stuck or not.
            # If the system allows no more threads, the running ones serve the queue, or the wait ends in a failure.
            with suppress(RuntimeError):
                Thread(target=self._work, name="dns", daemon=True).start()
                self._threads += 1

    def _work(self) -> None:
        while lookup := self._next():
            lookup.taken_up = monotonic()
            addresses = self._look_up(lookup)
            with self._changed:
                del self._asked[lookup.host]
                lookup.addresses = addresses
                if addresses:
                    self._remember(lookup.host, addresses)
            lookup.answered.set()

    def _next(self) -> _Lookup | None:
        """The next look-up, or None after some idle time: then the thread ends."""
        with self._changed:
            self._idle += 1
            asked = self._changed.wait_for(lambda: self._queue, IDLE_SECONDS)
            self._idle -= 1
            if asked:
                return self._queue.popitem(last=False)[1]
            self._threads -= 1
            return None

    def _look_up(self, lookup: _Lookup) -> Addresses:
        try:
            return tuple(dict.fromkeys(map(ip_address, self._lookup(lookup.host, lookup.port))))
        except Exception:  # noqa: BLE001 (whatever a look-up raises, this thread goes on, and its callers learn of the failure)
            return ()
