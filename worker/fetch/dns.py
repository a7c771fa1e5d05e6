"""Names to addresses, within a time that really ends.

`getaddrinfo` knows the system's whole configuration (/etc/hosts, search lists, nsswitch), but cannot be interrupted.
So it runs in a bounded number of daemon threads, and whoever waits for it waits only as long as it may.
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
        OSError: none, or the name server did not answer.
        UnicodeError: no name that DNS can hold.
    """
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(slots=True, eq=False)
class _Lookup:
    """One question on its way, shared by all who ask it."""

    host: str
    port: int
    waiting: int = 0
    taken_up: float = math.inf  # since when a thread asks it, on the monotonic clock
    answered: Event = field(default_factory=Event)
    addresses: Addresses = ()


class Resolver:
    """Looks names up, from many threads side by side: one look-up at a time for each host, shared by all who wait.

    A good answer serves for `FRESH_SECONDS`, the most recent `MAX_REMEMBERED` of them: under load every fetch asks, and
    mostly for the same few hosts. The policy checks the addresses on each use, fresh or not. A failure is not kept.

    Args:
        lookup: from host and port to the texts of addresses; may raise anything, and may take any time.
        threads: look-ups side by side. While all are stuck, `resolve` still ends in time.
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
        """All addresses of a host, at least one, in the system's order and without repetition; none was checked.

        Args:
            host: a name without a trailing dot.
            port: handed to the look-up.
            wait: for how long.

        Raises:
            Unreached: `dns_failure`: no address, no good answer, or none within the time.
            MissionFailed: `deadline_exceeded` where the time was cut short; `dns_failure` where the question waited for a
                thread for most of it: names whose servers are dead had them all, which is not this name's doing.
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
        """Take back a question that no thread has taken up and nobody waits for: the queue holds no leftovers."""
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
            # Not of concurrent.futures: its threads are joined when the interpreter ends, stuck or not.
            # Where the system has no thread left, those that run serve the queue, or the wait ends in a failure.
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
        """The next question, or None after some idle time: then the thread ends."""
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
        except Exception:  # noqa: BLE001 (whatever a look-up raises, this thread goes on and the waiters are told)
            return ()
