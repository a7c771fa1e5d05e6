"""A connected socket with a deadline: every read and write of a fetch goes through it.

A socket's own timeout limits only one call, so a server that sends a byte a second blocks a reader forever. Here each
call gets the remaining time of the whole fetch. The errors are the mission's, and no library translates them.
"""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from time import monotonic

from mission.errors import MissionFailed
from mission.model import Reason
from worker.fetch.tls import TlsSocket

CHUNK = 64 * 1024


class StaleConnection(Exception):
    """The server closed a kept-alive connection before it sent any answer: the same request may be sent again."""


class Unreached(MissionFailed):
    """The host could not be reached, by its own fault: no DNS answer, no connection or no TLS in the time for it.

    A fetch that the mission's own limits cut short does not count: it says nothing about the host.
    """


class ConnectFailed(Unreached):
    """This address accepted no connection: another address of the host may work."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The time limit of one step, in seconds, and whether the deadline cut it short."""

    seconds: float
    cut_short: bool

    def over(self, reason: Reason, kind: type[MissionFailed] = MissionFailed) -> MissionFailed:
        """The error for a wait that timed out: `reason`, or `DEADLINE_EXCEEDED` if the deadline cut it short.

        That is decided before the wait, not by the clock after it: a submitter who chooses the deadline could get either result.
        """
        return MissionFailed(Reason.DEADLINE_EXCEEDED) if self.cut_short else kind(reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits of a fetch: `deadline` on the monotonic clock, the others in seconds."""

    deadline: float
    connect: float
    read: float

    def remaining(self) -> float:
        """The remaining seconds, always more than 0.

        Raises:
            MissionFailed: no time remains (`DEADLINE_EXCEEDED`).
        """
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise MissionFailed(Reason.DEADLINE_EXCEEDED)
        return seconds

    def wait(self, most: float) -> Wait:
        """The time limit for a step that should have up to `most` seconds.

        Raises:
            MissionFailed: no time remains (`DEADLINE_EXCEEDED`).
        """
        left = self.remaining()
        return Wait(min(most, left), cut_short=left < most)


def dial(address: IPv4Address | IPv6Address, port: int, seconds: float) -> socket.socket:
    """Connect to an address within `seconds`, more than 0.

    Raises:
        TimeoutError: the address did not accept the connection in time.
        OSError: the address refused the connection, or this system has no route to it (without IPv6, for example).
    """
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(seconds)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


class Wire:
    """A connection's socket with a read buffer; `http.client` uses it as the socket and as its file.

    `limits` are those of the current request; each request sets its own.
    """

    def __init__(self, sock: socket.socket | TlsSocket, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self._sock = sock
        self._buffer = bytearray()
        self._silent = True
        self._open = True

    # Methods that http.client and urllib3 call on a connection's socket.

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: `limits` sets the time limit of each call."""

    def sendall(self, data: bytes) -> None:
        """Send a request.

        Raises:
            MissionFailed: it could not be sent.
            StaleConnection: the kept-alive connection is gone.
        """
        self._silent = True
        wait = self.limits.wait(self.limits.read)
        self._sock.settimeout(wait.seconds)
        try:
            self._sock.sendall(data)
        except TimeoutError:
            raise wait.over(Reason.READ_TIMEOUT) from None
        except OSError:
            raise self._broken() from None

    def makefile(self, _mode: str) -> Wire:
        """Return itself: it has the methods of a file."""
        return self

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._open = False
        self._sock.close()

    def flush(self) -> None:
        """Do nothing: there is no write buffer."""

    @property
    def idle(self) -> bool:
        """Whether the next request may use this connection: it is open, and has no unexpected data."""
        return self._open and not self.pending and not self._readable()

    def _readable(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    # Methods that the response's parser calls.

    @property
    def pending(self) -> int:
        """The number of received, unread bytes: here, or in the TLS layer, where a poll of the socket does not show them."""
        return len(self._buffer) + (self._sock.pending() if isinstance(self._sock, TlsSocket) else 0)

    def readline(self, limit: int) -> bytes:
        """Return a line with its line break, or without it if the connection ended or `limit` bytes came first."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched, limit)) < 0 and len(self._buffer) < limit:
            searched = len(self._buffer)
            if not (data := self._receive(CHUNK)):
                break
            self._buffer += data
        return self._take(min(end + 1 or limit, limit))

    def read1(self, size: int) -> bytes:
        """Return between 1 and `size` bytes, with at most one system call; none after the connection's end."""
        if self._buffer:
            return self._take(size)
        return self._receive(min(size, CHUNK))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self, size: int) -> bytes:
        wait = self.limits.wait(self.limits.read)
        self._sock.settimeout(wait.seconds)
        try:
            data = self._sock.recv(size)
        except TimeoutError:
            raise wait.over(Reason.READ_TIMEOUT) from None
        except ssl.SSLEOFError:
            # Anyone on the way can cause an end without TLS's close_notify: the data may be incomplete.
            raise self._broken() from None
        except ssl.SSLError:
            raise MissionFailed(Reason.TLS_FAILURE) from None
        except OSError:
            raise self._broken() from None
        if not data and self._silent and self.requests > 1:
            raise StaleConnection
        self._silent = self._silent and not data
        return data

    def _broken(self) -> Exception:
        if self._silent and self.requests > 1:
            return StaleConnection()
        return MissionFailed(Reason.CONNECTION_FAILED)
