"""Commands that start and never end, with an argument announced as huge."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

SIZES = (500_000_000, 60_000_000, 15_000_000)


@contextmanager
def half_sent(port: int, user: str, password: str, *, connections: int) -> Iterator[None]:
    """Open this many connections with a login, each in the middle of an LPUSH to the queue."""
    with ExitStack() as stack:
        for number in range(connections):
            with suppress(OSError):  # the server may end them
                held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                begin(held, user, password, SIZES[number % len(SIZES)])
        yield


def begin(connection: socket.socket, user: str, password: str, size: int) -> None:
    """Log in, and send the start of the command."""
    connection.sendall(f"AUTH {user} {password}\r\n".encode())
    connection.recv(100)
    connection.sendall(b"*3\r\n$5\r\nLPUSH\r\n$8\r\nmissions\r\n$%d\r\n" % size + b"x" * 100_000)
