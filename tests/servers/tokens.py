"""An authorization server over TLS, or in clear: it issues tokens, or gives a test's answers."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

Answer = tuple[int, dict[str, str], bytes]


class TokenServer:
    """Listens on a free port of 127.0.0.1; a context manager.

    Attributes:
        asked: the header fields and the form of each request, in their order.
        body: the latest form, unparsed.
        issued: the tokens that it issued.
        answer: what it answers to its nth request, from 1.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, prefix: str = "token-", expires_in: int = 3600) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []
        self.body = ""
        self.issued: list[str] = []
        self.answer: Callable[[int], Answer] = self.hand_out
        self.prefix = prefix
        self.expires_in = expires_in
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tokens = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def url(self, host: str = "127.0.0.1") -> str:
        """The URL of the token endpoint."""
        return f"{self._scheme}://{host}:{self.port}/token"

    def hand_out(self, number: int) -> Answer:
        """A new token."""
        self.issued.append(f"{self.prefix}{number}")
        return self.say(200, access_token=self.issued[-1], token_type="Bearer", expires_in=self.expires_in)

    @staticmethod
    def say(status: int, **answer: Any) -> Answer:
        """An answer according to RFC 6749, section 5."""
        return status, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    tokens: TokenServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client may disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        tokens = self.server.tokens
        tokens.body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        tokens.asked.append((dict(self.headers.items()), dict(parse_qsl(tokens.body))))
        status, fields, body = tokens.answer(len(tokens.asked))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | fields).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Log nothing."""
