"""A connected socket that keeps to a deadline: every read and write of a fetch goes through it.

A socket's own timeout bounds one call only, so a server that sends a byte a second keeps a reader for ever. Here each
call gets what remains of the whole fetch, and the errors are the mission's: no library translates them on their way up.
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
    """The server closed a kept-alive connection before it answered anything: the same request may go out again."""


class Unreached(MissionFailed):
    """The host was not reached, and that lies with it: no name, no connection, no TLS in the time that a host has for it.

    What the mission's own limits cut short is none: it says nothing about the host.
    """


class ConnectFailed(Unreached):
    """Nobody took the connection at this address: another one of the host's may do."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long one thing may take, in seconds, and whether that is less than it should have: the deadline comes before."""

    seconds: float
    cut_short: bool

    def over(self, reason: Reason, kind: type[MissionFailed] = MissionFailed) -> MissionFailed:
        """The error for a wait that ended in vain: `reason`, or the deadline where that has cut it short.

        It was settled before the wait, not by the clock after it: who picks the deadline could make that say either.
        """
        return MissionFailed(Reason.DEADLINE_EXCEEDED) if self.cut_short else kind(reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a fetch in time: `deadline` on the monotonic clock, the others in seconds."""

    deadline: float
    connect: float
    read: float

    def remaining(self) -> float:
        """Seconds that remain, always more than 0.

        Raises:
            MissionFailed: none do (`DEADLINE_EXCEEDED`).
        """
        seconds = self.deadline - monotonic()
        if seconds <= 0:
            raise MissionFailed(Reason.DEADLINE_EXCEEDED)
        return seconds

    def wait(self, most: float) -> Wait:
        """How long a thing may take that should have up to `most` seconds.

        Raises:
            MissionFailed: no time remains (`DEADLINE_EXCEEDED`).
        """
        left = self.remaining()
        return Wait(min(most, left), cut_short=left < most)


def dial(address: IPv4Address | IPv6Address, port: int, seconds: float) -> socket.socket:
    """A connection to an address, made within so many seconds, more than 0.

    Raises:
        TimeoutError: nobody took it in time.
        OSError: nobody took it, or this system has no way there (without IPv6, say).
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
    """A connection's socket with a read buffer; `http.client` takes it for the socket and for its file.

    `limits` belong to the request in hand and are set anew for each one.
    """

    def __init__(self, sock: socket.socket | TlsSocket, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self._sock = sock
        self._buffer = bytearray()
        self._silent = True
        self._open = True

    # What http.client and urllib3 call on a connection's socket.

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the limits say how long each call may take."""

    def sendall(self, data: bytes) -> None:
        """Send a request.

        Raises:
            MissionFailed: it did not go out.
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
        """Itself: it reads like a file."""
        return self

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._open = False
        self._sock.close()

    def flush(self) -> None:
        """Nothing is buffered for writing."""

    @property
    def idle(self) -> bool:
        """Whether the next request may use this connection: open, with not one byte that nobody asked for."""
        return self._open and not self.pending and not self._readable()

    def _readable(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    # What the response's parser calls.

    @property
    def pending(self) -> int:
        """Bytes received and not yet read: here, or in the TLS layer, where no poll of the socket shows them."""
        return len(self._buffer) + (self._sock.pending() if isinstance(self._sock, TlsSocket) else 0)

    def readline(self, limit: int) -> bytes:
        """A line with its end; without one where the connection ended, or `limit` bytes came, before it."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched, limit)) < 0 and len(self._buffer) < limit:
            searched = len(self._buffer)
            if not (data := self._receive(CHUNK)):
                break
            self._buffer += data
        return self._take(min(end + 1 or limit, limit))

    def read1(self, size: int) -> bytes:
        """Between 1 and `size` bytes, with at most one call to the system; none when the connection ended."""
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
            # An end without TLS's goodbye may be anyone's on the way: what was to come is missing.
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
