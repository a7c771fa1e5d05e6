"""A site that answers fast, or as slowly as a scenario needs."""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

STUCK = "/stuck/"


class Site:
    """A site whose documents hold their path, and its final number as a secret; a context manager.

    `delay` is how long an answer takes on average, in seconds: half of it more or less. A path below `/stuck/` sends a byte
        now and then and never ends.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def url(self, number: int, path: str = "/document/") -> str:
        """The address of a document."""
        return f"http://{self.authority}{path}{number}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    site: Site
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients are killed on purpose here
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def do_GET(self) -> None:
        site = self.server.site
        found = re.search(r"(\d+)$", self.path)
        if site.delay:
            time.sleep(site.delay * random.uniform(0.5, 1.5))
        if self.path.startswith(STUCK):
            self._send(10**6, b"")
            while not site.closing.wait(0.2):
                self.wfile.write(b".")
        elif found:
            body = b"%s {* NUMBER: %s *}\n" % (self.path.encode(), found[1].encode())
            self._send(len(body), body)
        else:
            self.send_error(404)

    def _send(self, length: int, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Log nothing."""
