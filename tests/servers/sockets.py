"""Free ports, and the connections of this process, observed at the socket.

This does not use an audit hook (PEP 578), which stays for the life of the process. Under Python 3.11, threads that start together while
coverage traces them then fail, since `sys.settrace` runs the hook before it has done its work.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

Place = tuple[str, int]


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def connections() -> Iterator[list[Place]]:
    """The addresses connected to, in order. All but loopback are refused: nothing leaves this machine."""
    seen: list[Place] = []

    def watched(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
        def call(self: socket.socket, address: Any) -> Any:
            if isinstance(address, tuple):
                seen.append((str(address[0]), address[1]))
                if not ip_address(address[0]).is_loopback:
                    raise ConnectionRefusedError
            return connect(self, address)

        return call

    with (
        patch.object(socket.socket, "connect", watched(socket.socket.connect)),
        patch.object(socket.socket, "connect_ex", watched(socket.socket.connect_ex)),
    ):
        yield seen
