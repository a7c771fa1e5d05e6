"""TLS over a socket, with each call bounded in time whatever the other side sends.

OpenSSL reads on by itself over what is no data, such as tickets and key updates: a peer that sends these without end
keeps one call of an `SSLSocket` for ever, its timeout unlooked at. So OpenSSL gets its bytes from memory here, a piece at
a time, and the clock is looked at before each one.
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
    """The client's end of a TLS connection; what `Wire` calls of a socket, it has.

    Args:
        sock: connected; closed with this. It may be another one's end: TLS within the TLS of a proxy.
        context: checks the other side.
        server_name: that the certificate is to be for.

    Raises (every call that reads or writes):
        TimeoutError: it took longer than `settimeout` said.
        ssl.SSLEOFError: the connection ended without TLS's goodbye.
        ssl.SSLError, OSError: as of any TLS connection.
    """

    def __init__(self, sock: socket | TlsSocket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._sock = sock
        self._timeout = 0.0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def settimeout(self, seconds: float) -> None:
        """How long each of the calls that follow may take, all of it."""
        self._timeout = seconds

    def do_handshake(self) -> None:
        """Agree on keys, and check who is there."""
        self._call(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        """Between 1 and `size` bytes; none once the other side said goodbye."""
        return self._call(self._tls.read, size)

    def sendall(self, data: bytes) -> None:
        """Send all of it; the time is that for each record of 16 KiB."""
        left = memoryview(data)
        while left:
            left = left[self._call(self._tls.write, left) :]

    def pending(self) -> int:
        """Bytes that have come and are not read yet, still encrypted ones among them."""
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
        """The socket, for one call that may take what remains."""
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock
