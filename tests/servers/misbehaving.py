"""A real HTTP(S) server that misbehaves on demand: the path says how, `/ok` and `/doc` behave.

Use it as a context manager. It writes raw bytes, so it can send what no library would.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import cache
from time import time
from urllib.parse import parse_qsl, urlsplit

import brotli
from backports import zstd

DOCUMENT = b"the plan: {* KEY: value *}\n"
MIB = 1024 * 1024
DRIP_SECONDS = 0.05
HEAD_END = b"\r\n\r\n"


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
        """Send the pieces slowly, until the server stops or the client is gone."""
        for piece in pieces:
            self.send(piece)
            if self.server.stopping.wait(DRIP_SECONDS):
                return

    def wait(self) -> None:
        """Say nothing until the server stops."""
        self.server.stopping.wait()

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


def _raw(path: str, *pieces: bytes) -> None:
    """A path that sends these bytes, whatever they are, and closes the connection."""

    def send(exchange: Exchange) -> None:
        exchange.send(*pieces)
        exchange.close = True

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
    """Answers `code` to the first `times` requests for this very target, and behaves then."""
    if exchange.server.hits[exchange.target] > int(exchange.options["times"]):
        return exchange.answer()
    return _status(exchange)


@behaviour("/redirect")
def _redirect(exchange: Exchange) -> None:
    """To `to`, by `code`, with a body that never ends: nobody should read it."""
    location = exchange.options["to"].encode().decode("latin-1")
    exchange.answer(b"", f"Location: {location}", status=f"{exchange.options.get('code', '302')} Found", length=False)
    exchange.drip(_endless(b"x" * 1000))


@behaviour("/hops")
def _hops(exchange: Exchange) -> None:
    """Redirects `left` times, and behaves then."""
    left = int(exchange.options["left"])
    if not left:
        return exchange.answer()
    return exchange.answer(b"", f"Location: /hops?left={left - 1}", status="302 Found")


@behaviour("/loop")
def _loop(exchange: Exchange) -> None:
    exchange.answer(b"", "Location: /loop", status="302 Found")


# Time.


@behaviour("/silent")
def _silent(exchange: Exchange) -> None:
    exchange.wait()


@behaviour("/slow-status")
def _slow_status(exchange: Exchange) -> None:
    exchange.drip(bytes([byte]) for byte in b"HTTP/1.1 200 " + b"O" * 10_000)


@behaviour("/slow-headers")
def _slow_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    exchange.drip(_endless(b"X"))


@behaviour("/slow-body")
def _slow_body(exchange: Exchange) -> None:
    exchange.answer(b"", "Content-Length: 1000000", length=False)
    exchange.drip(_endless(b"x"))


@behaviour("/slow-chunks")
def _slow_chunks(exchange: Exchange) -> None:
    exchange.answer(b"", "Transfer-Encoding: chunked", length=False)
    exchange.drip(_endless(b"1\r\nx\r\n"))


@behaviour("/slow-continue")
def _slow_continue(exchange: Exchange) -> None:
    exchange.drip(_endless(b"HTTP/1.1 100 Continue\r\n\r\n"))


@behaviour("/stalled-body")
def _stalled_body(exchange: Exchange) -> None:
    exchange.answer(b"x" * 10, "Content-Length: 1000000", length=False)
    exchange.wait()


# Space.


def _flood(head: bytes, piece: bytes) -> Behaviour:
    def flood(exchange: Exchange) -> None:
        exchange.send(head)
        while not exchange.server.stopping.is_set():
            exchange.send(piece * 100)

    return flood


BEHAVIOURS["/endless-headers"] = _flood(b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"x" * 1000 + b"\r\n")
BEHAVIOURS["/endless-header"] = _flood(b"HTTP/1.1 200 OK\r\nX-Header: ", b"x" * 1000)
BEHAVIOURS["/endless-continue"] = _flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
BEHAVIOURS["/endless-line"] = _flood(b"HTTP/1.1 200 ", b"O" * 1000)
BEHAVIOURS["/endless-body"] = _flood(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000)
BEHAVIOURS["/endless-chunks"] = _flood(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n"
)
BEHAVIOURS["/endless-tiny-chunks"] = _flood(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000
)
BEHAVIOURS["/endless-extensions"] = _flood(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 1000 + b"\r\nx\r\n"
)
BEHAVIOURS["/endless-extension"] = _flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000)
BEHAVIOURS["/endless-trailers"] = _flood(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: " + b"x" * 1000 + b"\r\n"
)


@behaviour("/told-too-large")
def _told_too_large(exchange: Exchange) -> None:
    exchange.answer(b"", f"Content-Length: {1 << 40}", length=False)
    exchange.wait()


@behaviour("/many-headers")
def _many_headers(exchange: Exchange) -> None:
    exchange.answer(DOCUMENT, *(f"X-{n}: x" for n in range(int(exchange.options["n"]))))


@behaviour("/bomb")
def _bomb(exchange: Exchange) -> None:
    """`mib` MiB of zeros in `coding`, comma-separated in the order applied; `declared` as if it differs."""
    coding = exchange.options["coding"]
    declared = exchange.options.get("declared", coding)
    exchange.answer(bomb(coding, int(exchange.options["mib"])), f"Content-Encoding: {declared}")


# Connections that end.


_raw("/empty")
_raw("/cut-status", b"HTTP/1.1 20")
_raw("/cut-headers", b"HTTP/1.1 200 OK\r\nContent-Le")
_raw("/cut-body", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
_raw("/cut-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n0123456789")
_raw("/cut-chunk-size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n6")
_raw("/cut-last-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n")
_raw("/cut-trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nX-T")


@behaviour("/reset")
def _reset(exchange: Exchange) -> None:
    exchange.reset()


@behaviour("/reset-body")
def _reset_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
    exchange.reset()


@behaviour("/closes-later")
def _closes_later(exchange: Exchange) -> None:
    """Answers well, as if to keep the connection, and closes it when the next request has come."""
    exchange.answer()
    with suppress(OSError):
        exchange.sock.recv(65536)
    exchange.close = True


# Not HTTP as it should be.


_OK = b"HTTP/1.1 200 OK\r\n"
_LENGTH = b"Content-Length: 2\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

_raw("/garbage", bytes(range(256)) * 8)
_raw("/garbage-without-end", b"\x16\x03\x01\x02")
_raw("/http09", b"<html>hello</html>")
_raw("/icy", b"ICY 200 OK\r\n\r\nmusic")
_raw("/http2", b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nhi")
_raw("/status-of-four-digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi")
_raw("/status-too-high", b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nhi")
_raw("/status-with-sign", b"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nhi")
_raw("/switching", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")
_raw("/folded", _OK, _LENGTH, b"X-Folded: a\r\n b\r\n\r\nhi")
_raw("/no-colon", _OK, _LENGTH, b"no colon here\r\n\r\nhi")
_raw("/space-before-colon", _OK, b"Content-Length : 2\r\n\r\nhi")
_raw("/nul-in-header", _OK, _LENGTH, b"X-Nul: a\0b\r\n\r\nhi")
_raw("/bare-cr", _OK, _LENGTH, b"X-Cr: a\rContent-Length: 1\r\n\r\nhi")
_raw("/length-negative", _OK, b"Content-Length: -2\r\n\r\nhi")
_raw("/length-with-sign", _OK, b"Content-Length: +2\r\n\r\nhi")
_raw("/length-no-number", _OK, b"Content-Length: two\r\n\r\nhi")
_raw("/length-empty", _OK, b"Content-Length:\r\n\r\nhi")
_raw("/lengths-differ", _OK, _LENGTH, b"Content-Length: 1\r\n\r\nhi")
_raw("/length-list-differs", _OK, b"Content-Length: 2, 1\r\n\r\nhi")
_raw("/length-and-chunked", _OK, _LENGTH, _CHUNKED, b"\r\n2\r\nhi\r\n0\r\n\r\n")
_raw("/chunked-twice", _OK, _CHUNKED, _CHUNKED, b"\r\n2\r\nhi\r\n0\r\n\r\n")
_raw("/chunked-in-old-http", b"HTTP/1.0 200 OK\r\n", _CHUNKED, b"\r\n2\r\nhi\r\n0\r\n\r\n")
_raw("/other-transfer-coding", _OK, b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-size-no-number", _OK, _CHUNKED, b"\r\nzz\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-size-with-sign", _OK, _CHUNKED, b"\r\n+2\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-size-prefixed", _OK, _CHUNKED, b"\r\n0x2\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-size-underscored", _OK, _CHUNKED, b"\r\n0_2\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-size-empty", _OK, _CHUNKED, b"\r\n\r\nhi\r\n0\r\n\r\n")
_raw("/chunk-too-long", _OK, _CHUNKED, b"\r\n2\r\nhi!!\r\n0\r\n\r\n")
_raw("/unknown-coding", _OK, _LENGTH, b"Content-Encoding: compress\r\n\r\nhi")
_raw("/false-gzip", _OK, _LENGTH, b"Content-Encoding: gzip\r\n\r\nhi")
_raw("/no-location", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")
_raw("/two-locations", b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nLocation: /doc\r\nContent-Length: 0\r\n\r\n")
_raw("/partial", b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nhi")
_raw("/not-modified", b"HTTP/1.1 304 Not Modified\r\n\r\n")
_raw("/old-http", b"HTTP/1.0 200 OK\r\n\r\n" + DOCUMENT)


@behaviour("/two-answers")
def _two_answers(exchange: Exchange) -> None:
    """An answer, and another one that nobody asked for, in one piece with the first one's body."""
    exchange.answer(b"", f"Content-Length: {len(DOCUMENT)}", length=False)
    exchange.send(DOCUMENT, b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")


@behaviour("/raw")
def _raw_bytes(exchange: Exchange) -> None:
    """Whatever stands in the server's `raw`."""
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
    """So many MiB of zeros in these codings; a second one is laid over the first."""
    data = b"\0" * (mib * MIB)
    for name in coding.split(","):
        data = compress(data, name.strip())
    return data


class MisbehavingServer:
    """Listens on a port of its own on a loopback address, a thread for each connection.

    `hits` counts requests for each target, `heads` holds what was asked, `connections` counts those accepted.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.stopping = threading.Event()
        self.hits: Counter[str] = Counter()
        self.heads: list[bytes] = []
        self.connections = 0
        self.raw = b""
        self._tls = tls
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

    def __enter__(self) -> MisbehavingServer:
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
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with self._closing(sock), suppress(OSError):
            if self._tls is not None:
                sock.settimeout(5)
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._closing(sock):
                while self._exchange(sock):
                    pass

    def _exchange(self, sock: socket.socket) -> bool:
        head = b""
        sock.settimeout(0.1)
        while HEAD_END not in head:
            if self.stopping.is_set():
                return False
            with suppress(TimeoutError):
                data = sock.recv(65536)
                if not data:
                    return False
                head += data
        sock.settimeout(10)
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

    @contextmanager
    def _closing(self, sock: socket.socket) -> Iterator[None]:
        try:
            yield
        finally:
            sock.close()
