"""The attackers, in a separate process: a hostile submitter, a hostile server, a stolen producer's login, idle connections."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import redis

from mission.errors import DecoderError
from mission.model import Reason
from mission.settings import Settings
from producer import MissionClient
from tests.attack.thief import Thief
from tests.security.half_sent import SIZES, begin
from tests.servers.misbehaving import BEHAVIOURS, MIB, Exchange, MisbehavingServer, behaviour

# Hosts on the allowlist that refuse every connection.
DEAD_HOSTS = [f"127.9.{n // 250}.{n % 250 + 1}:9" for n in range(1000)]
_HELD = 300  # connections of one kind; a process may have 1,024 files open on many machines
_HARMLESS = ("/ok", "/doc", "/status", "/hops", "/flaky", "/raw", "/bomb", "/redirect", "/slow-document")
_FORBIDDEN = (
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]:6379/",
    "http://10.0.0.1/",
    "file:///etc/passwd",
)
_GARBAGE_URLS = (
    "",
    "http://",
    "javascript:alert(1)",
    "http://\udcff/",
    "https://" + "a" * 5000,
    "\x9b31mhttp://x/",
    "//x",
)


@dataclass(frozen=True, slots=True)
class Target:
    """The attackers' knowledge: a producer's login and URL key, a healthy host with slow handshakes, the ports of /metrics."""

    redis_url: str
    url_key: str
    slow_url: str
    metrics_ports: tuple[int, ...]
    attacks: tuple[str, ...]


@behaviour("/slow-document")
def _slow_document(exchange: Exchange) -> None:
    """A numbered document from a server with slow TLS handshakes: a healthy host that everybody uses."""
    exchange.answer(b"{* NUMBER: %b *}" % exchange.options["number"].encode())


@cache
def _packed(text: bytes, size: int) -> bytes:
    return gzip.compress(text * (size // len(text)), 9, mtime=0)


@behaviour("/marker-bomb")
def _marker_bomb(exchange: Exchange) -> None:
    """A few KB that decompress to 10 MiB of markers."""
    exchange.answer(_packed(b"{* KEY: " + b"v" * 2000 + b" *}\n", 10 * MIB - 2000), "Content-Encoding: gzip")


@behaviour("/astral")
def _astral(exchange: Exchange) -> None:
    """10 MiB of text for which Python needs four bytes a character."""
    exchange.answer(
        _packed("\U0001f600".encode() * 256, 10 * MIB),
        "Content-Encoding: gzip",
        "Content-Type: text/plain; charset=utf-8",
    )


HOSTILE_PATHS = sorted({path for path in BEHAVIOURS if path not in _HARMLESS} - {"/marker-bomb", "/astral"})


# The answer that shows that an attack ran and the defence held, for each attack.
ANSWERS = {
    "short expiries": "taken",
    "bombs": "taken",
    "astral text": "taken",
    "hostile answers": "taken",
    "redirects": "taken",
    "garbage URLs": Reason.INVALID_URL.value,
    "dead hosts": "taken",
    "stolen login": "NOPERM",
    "half-sent arguments": "taken",
    "idle connections": "taken",
}


class Attackers:
    """Threads that attack at a steady rate; `seen` counts the answers to each attack."""

    def __init__(self, target: Target, servers: list[MisbehavingServer], stop: threading.Event) -> None:
        self._target = target
        self._servers = servers
        self._stop = stop
        self._dice = random.Random(14)
        self._half_sent_ones: deque[socket.socket] = deque()
        self._idle_ones: deque[socket.socket] = deque()
        self.seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._client = MissionClient(Settings.from_env(redis_url=target.redis_url, url_key=target.url_key))

    def run(self) -> None:
        """Attack until told to stop."""
        thief = Thief(self._target.redis_url, self._dice)
        attacks: dict[str, tuple[float, Callable[[], object]]] = {  # the rate per second, and the attack
            "short expiries": (20, self._short_expiry),
            "bombs": (0.5, lambda: self._submit("/marker-bomb")),
            "astral text": (0.2, lambda: self._submit("/astral")),
            "hostile answers": (3, lambda: self._submit(self._dice.choice(HOSTILE_PATHS))),
            "redirects": (5, lambda: self._submit(f"/redirect?to={self._dice.choice(_FORBIDDEN)}")),
            "garbage URLs": (10, lambda: self._client.enqueue(self._dice.choice(_GARBAGE_URLS), submitter="mallory")),
            "dead hosts": (10, self._dead_hosts),
            "stolen login": (50, thief.act),
            "half-sent arguments": (15, self._half_sent),
            "idle connections": (60, self._idle),
        }
        threads = [threading.Thread(target=self._pace, args=(name, *attacks[name])) for name in self._target.attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _pace(self, name: str, per_second: float, act: Callable[[], object]) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / per_second
            try:
                act()
                self.seen[name]["taken"] += 1
            except (DecoderError, redis.RedisError, OSError) as error:
                self.seen[name][_answer(error)] += 1

    def _submit(self, path: str) -> None:
        self._client.enqueue(self._dice.choice(self._servers).url(path), submitter="mallory")

    def _short_expiry(self) -> None:
        url = f"{self._target.slow_url}/slow-document?number=0"
        self._client.enqueue(url, submitter="mallory", expires_seconds=self._dice.uniform(0.055, 0.09))

    def _dead_hosts(self) -> None:
        urls = [f"http://{host}/" for host in self._dice.sample(DEAD_HOSTS, 5)]
        for _ in self._client.enqueue_many(urls, submitter="mallory"):
            pass

    def _half_sent(self) -> None:
        """Start a command with an argument announced as huge, and never end it."""
        url = urlsplit(self._target.redis_url)
        connection = _connect(self._half_sent_ones, str(url.hostname), url.port or 0)
        begin(connection, str(url.username), str(url.password), self._dice.choice(SIZES))

    def _idle(self) -> None:
        """A connection to /metrics whose request never ends."""
        _connect(self._idle_ones, "127.0.0.1", self._dice.choice(self._target.metrics_ports)).sendall(
            b"GET /metrics HT"
        )


def _connect(held: deque[socket.socket], host: str, port: int) -> socket.socket:
    """A connection that stays open until there are too many."""
    if len(held) >= _HELD:
        held.popleft().close()
    held.append(socket.create_connection((host, port), timeout=1))
    return held[-1]


def _answer(error: Exception) -> str:
    """The reason, or Redis' error code: a first word in capitals, which redis-py removes if it knows it."""
    if isinstance(error, DecoderError) and error.reason:
        return error.reason.value
    if isinstance(error, redis.ResponseError):
        word = error.status_code or str(error).partition(" ")[0]
        return word if word.isupper() else "ERR"
    return type(error).__name__


def main(pipe: Connection) -> None:
    """The attackers' process: report the addresses of its servers, attack the `Target` that it receives, and end at the next message."""
    with ExitStack() as stack:
        servers = [stack.enter_context(MisbehavingServer()) for _ in range(2)]
        pipe.send([f"127.0.0.1:{server.port}" for server in servers])
        stop = threading.Event()
        attackers = Attackers(pipe.recv(), servers, stop)
        thread = threading.Thread(target=attackers.run, daemon=True)
        thread.start()
        pipe.recv()
        stop.set()
        thread.join(timeout=10)
        pipe.send({name: dict(answers) for name, answers in attackers.seen.items()})
