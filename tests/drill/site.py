"""The site for the drill's missions: its documents are good until a scenario changes that."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

SECRET = b"the plan: {* KEY: a sample *}, {* PLACE: the pier *}, {* TIME: tonight *}\n"
PLAIN = b"nothing here any more\n"


class Site:
    """A web server on loopback; a context manager. The path selects the answer.

    `/good` three secrets; `/plain` none; `/gone` 404; `/broken` 500; `/flaky?…` 503 at the first request of each query; `/slow/SECONDS` a byte a second;
    `/hang` a byte a second until `release`; `/private` 403, whatever the key. With `plain` set, `/good` no longer has secrets.

    Args:
        port: where to listen, 0 for any free one.
        host: another address of this machine.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        site = self
        self.plain = False
        self.hanging = threading.Event()

        class Handler(_Handler):
            pass

        Handler.site = site
        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.asked_before: set[str] = set()
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hanging.clear()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that disconnects is not an error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        kind, _, seconds = self.path.strip("/").partition("?")[0].partition("/")
        if kind == "good":
            self._answer(200, PLAIN if self.site.plain else SECRET)
        elif kind == "plain":
            self._answer(200, PLAIN)
        elif kind == "private":
            self._answer(403, b"")
        elif kind == "broken":
            self._answer(500, b"")
        elif kind == "flaky":
            first = self.path not in self.site.asked_before
            self.site.asked_before.add(self.path)
            self._answer(503 if first else 200, SECRET)
        elif kind == "slow":
            self._drip(float(seconds))
        elif kind == "hang":
            self._drip(3600.0)
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until and (seconds < 3600 or self.site.hanging.is_set()):
            self.wfile.write(b".")
            self.wfile.flush()
            time.sleep(min(0.5, max(0.0, until - time.monotonic())))
        self.wfile.write(SECRET)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Log nothing."""
