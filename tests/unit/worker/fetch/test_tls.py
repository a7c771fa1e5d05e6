"""TLS with a time limit for each call, on a socket pair with a real TLS server at the other end."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.servers.certificates import Authority
from worker.fetch.tls import TlsSocket
from worker.fetch.transport import tls_context

NAME = "docs.example"


class Server:
    """The other end: does the handshake in a thread, then sends `ready` more bytes as the client reads; `sent` counts them."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.ready = 0
        self.sent = 0
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with suppress(OSError):
            while True:
                try:
                    self.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._sock.sendall(self._outgoing.read())
                    if not (data := self._sock.recv(65536)):
                        return
                    self._incoming.write(data)
            rest = memoryview(self._outgoing.read())
            self.ready = len(rest)
            while self.sent < self.ready:
                self.sent += self._sock.send(rest[self.sent : self.sent + 65536])

    def say(self, data: bytes, *, goodbye: bool = False) -> None:
        """Send data; with `goodbye`, close the TLS session after it."""
        self._thread.join()
        if data:
            self.tls.write(data)
        if goodbye:
            with suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        self._sock.sendall(self._outgoing.read())

    def hear(self, size: int) -> bytes:
        """Receive data from the client."""
        self._thread.join()  # only one thread at a time may use an OpenSSL connection
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self._incoming.write(self._sock.recv(65536))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def connected(
    authority: Authority, pair: tuple[socket.socket, socket.socket], tickets: int
) -> tuple[TlsSocket, Server]:
    context = authority.context(NAME)
    context.num_tickets = tickets
    server = Server(pair[1], context)
    client = TlsSocket(pair[0], tls_context(Path(authority.ca_file)), NAME)
    client.settimeout(30)
    client.do_handshake()
    return client, server


def test_data_goes_both_ways(authority: Authority, pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = connected(authority, pair, tickets=2)
    for size in (1, 16384, 100_000):
        data = os.urandom(size)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        heard = b""
        while len(heard) < size:
            heard += server.hear(65536)
        sender.join()
        assert heard == data
        speaker = threading.Thread(target=server.say, args=(data,))
        speaker.start()
        got = b""
        while len(got) < size:
            got += client.recv(65536)
        speaker.join()
        assert got == data
    assert not client.pending()


def test_what_has_come_and_is_not_read_is_pending(
    authority: Authority, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, server = connected(authority, pair, tickets=2)
    server.say(b"12")
    assert client.recv(1) == b"1"
    assert client.pending() == 1
    assert TlsSocket(client, tls_context(None), NAME).pending() == 1, "below another one as well"
    assert client.recv(1) == b"2"
    assert not client.pending()


def test_a_goodbye_is_an_end_and_a_missing_one_an_error(
    authority: Authority, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, server = connected(authority, pair, tickets=2)
    server.say(b"", goodbye=True)
    assert client.recv(10) == b""
    near, far = socket.socketpair()
    with near, far:
        client, _ = connected(authority, (near, far), tickets=0)
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLEOFError):
            client.recv(10)


def test_silence_and_deafness_end_in_time(authority: Authority, pair: tuple[socket.socket, socket.socket]) -> None:
    client, _ = connected(authority, pair, tickets=0)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(10)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(50_000_000))


def test_what_is_no_data_does_not_keep_a_call_beyond_its_time(
    authority: Authority, pair: tuple[socket.socket, socket.socket]
) -> None:
    """An `SSLSocket` reads on while data arrives: all these tickets."""
    client, server = connected(authority, pair, tickets=40_000)
    wait_for(lambda: server.sent, what="the first tickets")
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(10)
    assert server.sent < server.ready
