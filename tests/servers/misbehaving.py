"""A real HTTP(S) server that misbehaves on demand: the path selects how, `/ok` and `/doc` behave.

Use it as a context manager. It writes raw bytes, so it can send what no library would.
"""

from __future__ import annotations

import gzip
import io
import socket
import ssl
import struct
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import formatdate
from functools import cache
from time import time
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import brotli
from backports import zstd

DOCUMENT = b"the plan: {* KEY: value *}\n"
MIB = 1024 * 1024
DRIP_SECONDS = 0.05
HEAD_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\n"
_LENGTH = b"Content-Length: 2\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, server: MisbehavingServer, sock: socket.socket, head: bytes) -> None:
        self.server = server
        self.sock = sock
        self.head = head
        self.target = head.split(b" ")[1].decode("latin-1")
        parts = urlsplit("//host" + self.target)
        self.path = parts.path
        self.options = dict(parse_qsl(parts.query))
        self.close = False

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def answer(self, body: bytes = DOCUMENT, *fields: str, status: str = "200 OK", length: bool = True) -> None:
        lines = [f"HTTP/1.1 {status}", *fields, *([f"Content-Length: {len(body)}"] if length else [])]
        self.send("\r\n".join(lines).encode("latin-1"), HEAD_END, body)

    def drip(self, pieces: Iterator[bytes]) -> None:
        """Send the pieces slowly until the server stops or the client is gone."""
        for piece in pieces:
            self.send(piece)
            if self.server.stopping.wait(DRIP_SECONDS):
                return

    def wait(self) -> None:
        """Send nothing until the server stops."""
        self.server.stopping.wait()

    def end(self) -> None:
        """End the connection."""
        self.close = True

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close = True


Behaviour = Callable[[Exchange], None]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(path: str) -> Callable[[Behaviour], Behaviour]:
    def register(function: Behaviour) -> Behaviour:
        BEHAVIOURS[path] = function
        return function

    return register


def _raw(path: str, *pieces: bytes, then: Behaviour = Exchange.end) -> None:
    """Register a path that sends these bytes, and then ends the connection or does what `then` says."""

    def send(exchange: Exchange) -> None:
        exchange.send(*pieces)
        then(exchange)

    BEHAVIOURS[path] = send


def _endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


# Good behaviour.


@behaviour("/ok")
def _ok(exchange: Exchange) -> None:
    exchange.answer(DOCUMENT, "Content-Type: text/plain; charset=utf-8")


@behaviour("/doc")
def _doc(exchange: Exchange) -> None:
    """`text`, or `size` bytes; framed by `framing`: length, chunked or close; with `coding`, comma-separated."""
    body = exchange.options.get("text", "").encode() or b"x" * int(exchange.options.get("size", "0"))
    fields = []
    if codings := exchange.options.get("coding"):
        fields.append(f"Content-Encoding: {codings}")
        for coding in codings.split(","):
            body = compress(body, coding)
    match exchange.options.get("framing", "length"):
        case "chunked":
            step = int(exchange.options.get("step", "1000"))
            chunks = [body[at : at + step] for at in range(0, len(body), step)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
            exchange.answer(body, "Transfer-Encoding: chunked", *fields, length=False)
        case "close":
            exchange.answer(body, *fields, length=False)
            exchange.close = True
        case _:
            exchange.answer(body, *fields)


@behaviour("/guarded")
def _guarded(exchange: Exchange) -> None:
    """The document for a request with one of the header fields in `welcome`; `code` for others, or 401."""
    if exchange.server.welcome.isdisjoint(exchange.head.decode("latin-1").split("\r\n")):
        return exchange.answer(b"", status=f"{exchange.options.get('code', '401')} Not you")
    return _ok(exchange)


@behaviour("/half-zip")
def _half_zip(exchange: Exchange) -> None:
    """A zip with `text` in `a/.env`, and a member that is damaged."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/.env", exchange.options.get("text", ""))
        archive.writestr("b", b"damaged!")
    exchange.answer(packed.getvalue().replace(b"damaged!", b"DAMAGED!"), "Content-Type: application/zip")


@behaviour("/status")
def _status(exchange: Exchange) -> None:
    """`code`; with `retry_after` seconds, or as a date with `retry_date` seconds from now."""
    fields = []
    if after := exchange.options.get("retry_after"):
        fields.append(f"Retry-After: {after}")
    if date := exchange.options.get("retry_date"):
        fields.append(f"Retry-After: {formatdate(time() + float(date), usegmt=True)}")
    exchange.answer(
        b"", *fields, status=f"{exchange.options['code']} So be it", length=exchange.options["code"] != "204"
    )


@behaviour("/flaky")
def _flaky(exchange: Exchange) -> None:
    """Answers `code` to the first `times` requests for this target, then behaves."""
    if exchange.server.hits[exchange.target] > int(exchange.options["times"]):
        return exchange.answer()
    return _status(exchange)


@behaviour("/redirect")
def _redirect(exchange: Exchange) -> None:
    """To `to`, by `code`, with an endless body that no client should read."""
    location = exchange.options["to"].encode().decode("latin-1")
    exchange.answer(b"", f"Location: {location}", status=f"{exchange.options.get('code', '302')} Found", length=False)
    exchange.drip(_endless(b"x" * 1000))


@behaviour("/hops")
def _hops(exchange: Exchange) -> None:
    """Redirects `left` times, then behaves."""
    left = int(exchange.options["left"])
    if not left:
        return exchange.answer()
    return exchange.answer(b"", f"Location: /hops?left={left - 1}", status="302 Found")


_raw("/loop", b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")


# Time.


def _slow(path: str, head: bytes, piece: bytes) -> None:
    """Register a path that sends the head, then the piece again and again, slowly."""
    _raw(path, head, then=lambda exchange: exchange.drip(_endless(piece)))


_slow("/slow-status", b"HTTP/1.1 200 ", b"O")
_slow("/slow-headers", _OK, b"X")
_slow("/slow-body", _OK + b"Content-Length: 1000000\r\n\r\n", b"x")
_slow("/slow-chunks", _OK + _CHUNKED + b"\r\n", b"1\r\nx\r\n")
_slow("/slow-continue", b"", b"HTTP/1.1 100 Continue\r\n\r\n")
_raw("/silent", then=Exchange.wait)
_raw("/stalled-body", _OK, b"Content-Length: 1000000\r\n\r\nxxxxxxxxxx", then=Exchange.wait)


# Space.


def _flood(path: str, head: bytes, piece: bytes) -> None:
    """Register a path that sends the head, then the piece endlessly."""

    def flood(exchange: Exchange) -> None:
        while not exchange.server.stopping.is_set():
            exchange.send(piece * 100)

    _raw(path, head, then=flood)


_X = b"x" * 1000
_flood("/endless-headers", _OK, b"X-Header: " + _X + b"\r\n")
_flood("/endless-header", _OK + b"X-Header: ", _X)
_flood("/endless-continue", b"", b"HTTP/1.1 100 Continue\r\n\r\n")
_flood("/endless-line", b"HTTP/1.1 200 ", _X)
_flood("/endless-body", _OK + b"\r\n", _X)
_flood("/endless-chunks", _OK + _CHUNKED + b"\r\n", b"3e8\r\n" + _X + b"\r\n")
_flood("/endless-tiny-chunks", _OK + _CHUNKED + b"\r\n", b"1\r\nx\r\n" * 1000)
_flood("/endless-extensions", _OK + _CHUNKED + b"\r\n", b"1;" + _X + b"\r\nx\r\n")
_flood("/endless-extension", _OK + _CHUNKED + b"\r\n1;", _X)
_flood("/endless-trailers", _OK + _CHUNKED + b"\r\n0\r\n", b"X-Trailer: " + _X + b"\r\n")
_raw("/told-too-large", _OK, b"Content-Length: 1099511627776\r\n\r\n", then=Exchange.wait)


@behaviour("/bomb")
def _bomb(exchange: Exchange) -> None:
    """`mib` MiB of zeros in `coding`, comma-separated in the order applied; `declared` as if it differs."""
    coding = exchange.options["coding"]
    declared = exchange.options.get("declared", coding)
    exchange.answer(bomb(coding, int(exchange.options["mib"])), f"Content-Encoding: {declared}")


# Connections that end.


_raw("/empty")
_raw("/cut-body", _OK, b"Content-Length: 100\r\n\r\n0123456789")
_raw("/reset", then=Exchange.reset)
_raw("/reset-body", _OK, b"Content-Length: 100\r\n\r\n0123456789", then=Exchange.reset)


@behaviour("/closes-later")
def _closes_later(exchange: Exchange) -> None:
    """Answers well, as if to keep the connection, and closes it after the next request arrives."""
    exchange.answer()
    with suppress(OSError):
        exchange.sock.recv(65536)
    exchange.close = True


# Invalid HTTP.


_raw("/garbage", bytes(range(256)) * 8)
_raw("/folded", _OK, _LENGTH, b"X-Folded: a\r\n b\r\n\r\nhi")
_raw("/lengths-differ", _OK, _LENGTH, b"Content-Length: 1\r\n\r\nhi")
_raw("/chunk-size-no-number", _OK, _CHUNKED, b"\r\nzz\r\nhi\r\n0\r\n\r\n")
_raw("/unknown-coding", _OK, _LENGTH, b"Content-Encoding: compress\r\n\r\nhi")
_raw("/false-gzip", _OK, _LENGTH, b"Content-Encoding: gzip\r\n\r\nhi")
_raw("/no-location", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")
_raw("/two-locations", b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nLocation: /doc\r\nContent-Length: 0\r\n\r\n")
_raw("/partial", b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nhi")
_raw("/not-modified", b"HTTP/1.1 304 Not Modified\r\n\r\n")
_raw("/old-http", b"HTTP/1.0 200 OK\r\n\r\n" + DOCUMENT)


@behaviour("/two-answers")
def _two_answers(exchange: Exchange) -> None:
    """An answer, and a second one without a request, sent together with the first one's body."""
    exchange.answer(b"", f"Content-Length: {len(DOCUMENT)}", length=False)
    exchange.send(DOCUMENT, b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")


@behaviour("/raw")
def _raw_bytes(exchange: Exchange) -> None:
    """The bytes in the server's `raw`."""
    exchange.send(exchange.server.raw)
    exchange.close = True


def compress(data: bytes, coding: str) -> bytes:
    """The data in one content coding; `raw-deflate` is deflate without zlib's header."""
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(data, 1, mtime=0)
        case "deflate":
            return zlib.compress(data, 1)
        case "raw-deflate":
            stream = zlib.compressobj(1, wbits=-15)
            return stream.compress(data) + stream.flush()
        case "br":
            return bytes(brotli.compress(data, quality=1))
        case "zstd":
            return zstd.compress(data)
    raise ValueError(coding)


@cache
def bomb(coding: str, mib: int) -> bytes:
    """This many MiB of zeros in these codings; a second coding is applied over the first."""
    data = b"\0" * (mib * MIB)
    for name in coding.split(","):
        data = compress(data, name.strip())
    return data


class MisbehavingServer:
    """Listens on a free port of a loopback address, with a thread for each connection.

    `hits` counts requests for each target, `heads` holds the requests, `connections` counts accepted connections. A client that sends one of the header
    fields in `welcome` gets the guarded document.
    A TLS handshake takes `handshake_seconds`.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        handshake_seconds: float = 0.0,
    ) -> None:
        self.stopping = threading.Event()
        self.hits: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self.connections = 0
        self.raw = b""
        self.welcome: set[str] = set()
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._host = host
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
        self.port: int = self._listener.getsockname()[1]

    def url(self, target: str, host: str | None = None) -> str:
        """A URL of this server, under another host name if one is given."""
        name = host or (f"[{self._host}]" if ":" in self._host else self._host)
        return f"{'https' if self._tls else 'http'}://{name}:{self.port}{target}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
            # Otherwise an answer in two pieces waits 40 ms for the acknowledgement of the first.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self.serve, sock)

    def serve(self, sock: socket.socket) -> None:
        """Answer on a connection until it ends, from any address."""
        with sock, suppress(OSError):
            if self._tls is not None:
                sock.settimeout(5)
                self.stopping.wait(self._handshake_seconds)
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                while self._exchange(sock):
                    pass

    def _head(self, sock: socket.socket) -> bytes:
        """The head of the next request; empty if no more arrive."""
        head = b""
        sock.settimeout(0.1)
        while HEAD_END not in head:
            if self.stopping.is_set():
                return b""
            with suppress(TimeoutError):
                data = sock.recv(65536)
                if not data:
                    return b""
                head += data
        sock.settimeout(10)
        return head

    def _exchange(self, sock: socket.socket) -> bool:
        head = self._head(sock)
        if not head:
            return False
        exchange = Exchange(self, sock, head)
        with self._lock:
            self.hits[exchange.target] += 1
            self.heads.append(head)
        handler = BEHAVIOURS.get(exchange.path)
        if handler is None:
            exchange.answer(b"not here", status="404 Not Found")
        else:
            handler(exchange)
        return not (exchange.close or self.stopping.is_set())
