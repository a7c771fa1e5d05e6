"""TLS over a socket, with a time limit for each call whatever the peer sends.

OpenSSL keeps reading over records without data, such as tickets and key updates. A peer that sends these without end
blocks one call of an `SSLSocket` forever, past its timeout. So OpenSSL reads from memory here, piece by piece, with a
check of the clock before each piece.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from socket import socket
from time import monotonic
from typing import TypeVar

PIECE = 64 * 1024

_T = TypeVar("_T")


class TlsSocket:
    """The client's end of a TLS connection, with the socket methods that `Wire` uses.

    Args:
        sock: connected; `close` closes it too. It may be a TlsSocket: TLS within the TLS of a proxy.
        context: verifies the peer.
        server_name: the name that the certificate must be valid for.

    Raises (every call that reads or writes):
        TimeoutError: it took longer than `settimeout` allows.
        ssl.SSLEOFError: the connection ended without TLS's close_notify.
        ssl.SSLError, OSError: as for any TLS connection.
    """

    def __init__(self, sock: socket | TlsSocket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._sock = sock
        self._timeout = 0.0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def settimeout(self, seconds: float) -> None:
        """Set the time limit for each of the following calls as a whole."""
        self._timeout = seconds

    def do_handshake(self) -> None:
        """Agree on keys, and verify the peer."""
        self._call(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        """Return between 1 and `size` bytes, or none after the peer's close_notify."""
        return self._call(self._tls.read, size)

    def sendall(self, data: bytes) -> None:
        """Send all the data; the time limit applies to each record of 16 KiB."""
        left = memoryview(data)
        while left:
            left = left[self._call(self._tls.write, left) :]

    def pending(self) -> int:
        """The number of received, unread bytes, including bytes that are still encrypted."""
        below = self._sock.pending() if isinstance(self._sock, TlsSocket) else 0
        return self._tls.pending() + self._incoming.pending + below

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _call(self, step: Callable[..., _T], *args: object) -> _T:
        until = monotonic() + self._timeout
        while True:
            try:
                result = step(*args)
            except ssl.SSLWantReadError:
                self._flush(until)
                if data := self._in_time(until).recv(PIECE):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush(until)
                return result

    def _flush(self, until: float) -> None:
        if self._outgoing.pending:
            self._in_time(until).sendall(self._outgoing.read())

    def _in_time(self, until: float) -> socket | TlsSocket:
        """The socket, with the remaining time as its timeout."""
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock
