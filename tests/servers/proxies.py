"""Proxies: our own, which plays every host itself or misbehaves; and Debian's tinyproxy and Squid, as real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import mkdtemp

from tests.conftest import unavailable, wait_for
from tests.servers.misbehaving import DRIP_SECONDS, MisbehavingServer
from tests.servers.sockets import free_port
from worker.local.children import end_child, last_lines, start_child

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
# A proxy's reaction to a request for a tunnel; returns whether the tunnel is open.
Manner = Callable[["PlayingProxy", socket.socket], bool]


def opens(_proxy: PlayingProxy, sock: socket.socket) -> bool:
    sock.sendall(OPEN)
    return True


def says(data: bytes) -> Manner:
    """Send these bytes, and close."""

    def say(_proxy: PlayingProxy, sock: socket.socket) -> bool:
        sock.sendall(data)
        return False

    return say


def refuses(status: str) -> Manner:
    return says(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsays".encode())


def hangs(proxy: PlayingProxy, _sock: socket.socket) -> bool:
    proxy.stopping.wait()
    return False


def opens_and_hangs(proxy: PlayingProxy, sock: socket.socket) -> bool:
    sock.sendall(OPEN)
    return hangs(proxy, sock)


def closes(_proxy: PlayingProxy, _sock: socket.socket) -> bool:
    return False


def resets(_proxy: PlayingProxy, sock: socket.socket) -> bool:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def drips(proxy: PlayingProxy, sock: socket.socket) -> bool:
    """The good answer, a byte at a time."""
    for byte in b"HTTP/1.1 200 " + b"O" * 10_000:
        sock.sendall(bytes([byte]))
        if proxy.stopping.wait(DRIP_SECONDS):
            break
    return False


def floods(proxy: PlayingProxy, sock: socket.socket) -> bool:
    """An endless head."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while not proxy.stopping.is_set():
        sock.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")
    return False


class PlayingProxy(MisbehavingServer):
    """A proxy on 127.0.0.1 that connects to nobody: `site` answers in each tunnel, whatever host that leads to.

    `manner` says what it does with one who asks for a tunnel; for hosts in `manners`, what it does with them. `asked` are the hosts and
    ports that it was asked for, `heads` the requests.
    """

    def __init__(self, site: MisbehavingServer, manner: Manner = opens) -> None:
        super().__init__()
        self.manner = manner
        self.manners: dict[str, Manner] = {}
        self.asked: list[str] = []
        self.site = site

    def setting(self, login: str = "", scheme: str = "http") -> str:
        """What `DECODER_EGRESS_PROXY` says of it."""
        return f"{scheme}://{login}{login and '@'}127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.site.__exit__()
        super().__exit__()

    def _exchange(self, sock: socket.socket) -> bool:
        head = self._head(sock)
        if head:
            asked = head.split(b" ")[1].decode("latin-1")
            with self._lock:
                self.heads.append(head)
                self.asked.append(asked)
            manner = self.manners.get(asked.rpartition(":")[0], self.manner)
            if manner(self, sock):
                self.site.serve(sock)
        return False


@contextmanager
def behind_tls(context: ssl.SSLContext, port: int) -> Iterator[int]:
    """A TLS port that forwards the decrypted data to another port of 127.0.0.1."""
    running: Queue[tuple[int, Callable[[], object]]] = Queue()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        running.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(over.set)))
        await over.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    own, stop = running.get(timeout=10)
    try:
        yield own
    finally:
        stop()
        thread.join(timeout=10)


@dataclass(frozen=True, slots=True)
class RealProxy:
    """A proxy in a separate process, on 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def tinyproxy(*, login: str = "", ports: tuple[int, ...] = (), port: int = 0) -> Iterator[RealProxy]:
    """Debian's tinyproxy; with a login it requires that login, and with ports it tunnels only to them."""
    lines = ["Timeout 60", "LogLevel Info", "MaxClients 100", *(f"ConnectPort {port}" for port in ports)]
    if login:
        lines.append(f"BasicAuth {login.replace(':', ' ')}")
    with ExitStack() as pieces:
        folder, port = pieces.enter_context(_folder()), port or free_port()
        config = folder / "tinyproxy.conf"
        config.write_text("\n".join([f"Port {port}", "Listen 127.0.0.1", *lines, ""]))
        yield pieces.enter_context(_running("tinyproxy", ["-d", "-c", str(config)], folder, port))


_SQUID = """
http_port 127.0.0.1:{port}
pid_filename {folder}/pid
access_log none
cache_log {folder}/cache.log
coredump_dir {folder}
hosts_file {folder}/hosts
dns_nameservers 127.0.0.1
visible_hostname proxy.test
shutdown_lifetime 0 seconds
cache deny all
acl CONNECT method CONNECT
{rules}
http_access allow all
"""
_LOGIN = """
auth_param basic program /bin/sh {folder}/login
acl known proxy_auth REQUIRED
http_access deny !known
"""
# Squid's helper that checks a login: one request a line, percent-encoded.
_HELPER = """
while read -r line; do
    if [ "$line" = "{words}" ]; then echo OK; else echo ERR; fi
done
"""


@contextmanager
def squid(*, login: str = "", ports: tuple[int, ...] = (), names: tuple[str, ...] = ()) -> Iterator[RealProxy]:
    """Debian's Squid, likewise; to it `names` are names of 127.0.0.1, and there are no others."""
    with ExitStack() as pieces:
        folder, port = pieces.enter_context(_folder()), free_port()
        rules = _LOGIN.format(folder=folder) if login else ""
        if ports:
            rules += f"acl tunnels port {' '.join(map(str, ports))}\nhttp_access deny CONNECT !tunnels\n"
        (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in names))
        (folder / "login").write_text(_HELPER.format(words=login.replace(":", " ")))
        config = folder / "squid.conf"
        config.write_text(_SQUID.format(port=port, folder=folder, rules=rules))
        yield pieces.enter_context(_running("squid", ["-N", "-f", str(config)], folder, port))


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that Squid can write to: started as root, it runs as another user."""
    folder = Path(mkdtemp(prefix="proxy-"))
    folder.chmod(0o755)
    try:
        if os.geteuid() == 0 and "proxy" in Path("/etc/passwd").read_text():
            shutil.chown(folder, "proxy", "proxy")
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(name: str, arguments: list[str], folder: Path, port: int) -> Iterator[RealProxy]:
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        unavailable(f"no {name} on PATH")
    log = folder / "log"
    process = start_child([program, *arguments], folder=folder, log=log, env={"PATH": "/usr/bin:/bin"})

    def ready() -> bool:
        assert process.poll() is None, last_lines(log)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(ready, what=name)
        yield RealProxy(port, process)
    finally:
        end_child(process, grace=10)
