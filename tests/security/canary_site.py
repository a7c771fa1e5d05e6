"""A site whose every word is a canary: documents, headers, redirect targets, error pages, and broken answers."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mission.model import Reason
from tests.security.traces import Canaries

Answer = Callable[["_Handler"], None]

# The reason with which a mission to each path ends; None is success.
ENDS: dict[str, Reason | None] = {
    "document": None,
    "moved": None,
    "hold": None,
    "hold-redis": None,
    "hold-doomed": Reason.ATTEMPTS_EXHAUSTED,
    "missing": Reason.HTTP_CLIENT_ERROR,
    "not-yours": Reason.CREDENTIALS_REFUSED,
    "error": Reason.HTTP_SERVER_ERROR,
    "limited": Reason.RATE_LIMITED,
    "loop": Reason.TOO_MANY_REDIRECTS,
    "elsewhere": Reason.HOST_NOT_ALLOWED,
    "with-login": Reason.CREDENTIALS_IN_URL,
    "nowhere": Reason.INVALID_URL,
    "other-port": Reason.PORT_NOT_ALLOWED,
    "other-scheme": Reason.SCHEME_NOT_ALLOWED,
    "metadata": Reason.BLOCKED_ADDRESS,
    "status-line": Reason.MALFORMED_RESPONSE,
    "bad-length": Reason.MALFORMED_RESPONSE,
    "bad-chunk": Reason.MALFORMED_RESPONSE,
    "bad-coding": Reason.MALFORMED_RESPONSE,
    "large": Reason.BODY_TOO_LARGE,
    "stall": Reason.READ_TIMEOUT,
    "drip": Reason.DEADLINE_EXCEEDED,
    "cut": Reason.CONNECTION_FAILED,
    "too-many": Reason.TOO_MANY_SECRETS,
    "too-large": Reason.RESULT_TOO_LARGE,
}
# Paths whose answer waits until the test releases it.
HELD = ("hold", "hold-redis", "hold-doomed", "hold-shutdown")


class CanarySite:
    """The site on 127.0.0.1 and a free port; a context manager. `held` says who waits, `let_go` lets them; `asked` are the requests' heads."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries
        self.value = canaries.new("secret value")
        self.category = canaries.new("category").upper()
        self.held = {name: threading.Event() for name in HELD}
        self.let_go = {name: threading.Event() for name in HELD}
        self.over = threading.Event()
        self.asked = bytearray()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="canary-site", daemon=True
        )

    @property
    def port(self) -> int:
        """Its address."""
        return self._server.server_port

    def url(self, kind: str) -> str:
        """A URL of this kind, with a canary in its path and in its query."""
        path, query = self.canaries.new(f"path of {kind}"), self.canaries.new(f"query of {kind}")
        return f"http://127.0.0.1:{self.port}/{kind}/{path}?signature={query}"

    def document(self) -> str:
        """A document that holds one secret among other confidential words."""
        return f"{self.canaries.new('body')} {{* {self.category}: {self.value} *}} {self.canaries.new('body')}\n"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for event in (*self.let_go.values(), self.over):
            event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    site: CanarySite
    request_queue_size = 128  # a worker opens all its connections at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        site = self.server.site
        site.asked += bytes(self.headers)
        new = site.canaries.new
        here = f"127.0.0.1:{site.port}"
        self.close_connection = True
        if kind in site.held:
            site.held[kind].set()
            site.let_go[kind].wait(60)
        if kind == "document" or kind in HELD:
            self.answer(200, site.document())
        elif kind == "moved":
            self.redirect(f"/document/{new('redirect path')}?token={new('redirect query')}#{new('redirect fragment')}")
        elif kind == "not-yours":
            self.answer(403, new("error page"), {"WWW-Authenticate": f"Bearer error={new('WWW-Authenticate')}"})
        elif kind == "missing":
            self.answer(404, new("error page"))
        elif kind == "error":
            self.answer(500, new("error page"))
        elif kind == "limited":
            self.answer(429, new("error page"), {"Retry-After": new("Retry-After")})
        elif kind == "loop":
            self.redirect(f"/loop/{new('redirect path')}?token={new('redirect query')}")
        elif kind == "elsewhere":
            self.redirect(f"http://elsewhere.invalid/{new('redirect path')}?token={new('redirect query')}")
        elif kind == "with-login":
            self.redirect(f"http://{new('redirect user')}:{new('redirect password')}@{here}/")
        elif kind == "nowhere":
            self.redirect(f"http://[{new('redirect host')}")
        elif kind == "other-port":
            self.redirect(f"http://127.0.0.1:9/{new('redirect path')}")
        elif kind == "other-scheme":
            self.redirect(f"ftp://{here}/{new('redirect path')}")
        elif kind == "metadata":
            self.redirect(f"http://169.254.169.254/{new('redirect path')}")
        elif kind == "status-line":
            self.raw(f"HTTP/1.1 {new('status line')}\r\n\r\n")
        elif kind == "bad-length":
            self.raw(f"HTTP/1.1 200 OK\r\nContent-Length: {new('Content-Length')}\r\n\r\n")
        elif kind == "bad-chunk":
            self.raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{new('chunk size')}\r\n")
        elif kind == "bad-coding":
            self.answer(200, new("body"), {"Content-Encoding": "gzip"})
        elif kind == "large":
            self.answer(200, new("body") * 20_000)
        elif kind == "stall":
            self.raw(f"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{new('body')}")
            site.over.wait(20)
        elif kind == "half":
            self.raw(f"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{new('body') * 20_000}")
            site.over.wait(60)
        elif kind == "drip":
            self.raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with suppress(ConnectionError):
                while not site.over.wait(0.2):
                    self.raw(new("body"))
        elif kind == "cut":
            self.raw(f"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{new('body')}")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "too-large":
            self.answer(200, f"{{*{new('secret value')}{'x' * 70_000}*}}")
        elif kind == "too-many":
            self.answer(200, f"{{*{new('secret value')}*}}" + "{*x*}" * 10_001)

    def redirect(self, target: str) -> None:
        self.answer(302, self.server.site.canaries.new("body of a redirect"), {"Location": target})

    def answer(self, status: int, text: str, fields: dict[str, str] | None = None) -> None:
        new = self.server.site.canaries.new
        body = text.encode()
        own = {
            "Content-Type": f"text/plain; charset={new('charset')}; x={new('Content-Type')}",
            "Set-Cookie": f"{new('cookie name')}={new('cookie value')}",
            "ETag": f'"{new("ETag")}"',
            new("header name"): new("header value"),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in (own | (fields or {})).items())
        self.raw(f"HTTP/1.1 {status} {new('reason phrase')}\r\n{head}Content-Length: {len(body)}\r\n\r\n{text}")

    def raw(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Log nothing."""
