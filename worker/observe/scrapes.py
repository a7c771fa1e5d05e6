"""The server that a Prometheus scrapes, which no client that reaches its port can exhaust.

Each connection takes a thread, and there are few. If all are taken and no request is being served, the oldest connection is cut. A
scraper sends its request at once and is served before that; a client that only holds connections open loses them. Every connection
has a time limit.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from mission.errors import SettingsError
from worker.observe.metrics import REGISTRY

log = logging.getLogger("decoder.metrics")

MAX_CONNECTIONS = 8
# From a connection's start to its end, in seconds: Prometheus' own default for a scrape.
MAX_SECONDS = 10.0
# How long a new connection waits for requests that are being served.
SERVED_SECONDS = 0.25


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Stay quiet."""

    def parse_request(self) -> bool:
        """Read the request's head; a client that sent one is served at once."""
        asked = super().parse_request()
        if asked and isinstance(self.server, _Server):
            self.server.asked.add(self.request)
        return asked


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._began: dict[socket.socket, float] = {}  # oldest first
        self.asked: set[socket.socket] = set()  # with a request that is being served, until their threads end
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        # A client that has asked is done at once, unless it does not read.
        if not self._free.acquire(blocking=False) and not (self.asked and self._free.acquire(timeout=SERVED_SECONDS)):
            self._cut(1)
            self._free.acquire()  # the connection that was cut ends, or another before it
        with self._lock:
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()
            self.asked.discard(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._began.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections past the time limit; called between connections and twice a second."""
        now = time.monotonic()
        with self._lock:
            old = sum(now - began > MAX_SECONDS for began in self._began.values())
        self._cut(old)

    def handle_error(self, *_: Any) -> None:
        """Log unexpected errors, not those of clients that disconnected or were cut."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a scrape failed: an unexpected %s", type(error).__name__)

    def _cut(self, count: int) -> None:
        with self._lock:
            for request in list(self._began)[:count]:
                del self._began[request]
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


class _ServerIPv6(_Server):
    address_family = socket.AF_INET6


def serve(port: int, host: str) -> tuple[WSGIServer, int]:
    """Serve the registry over HTTP from a daemon thread.

    Args:
        port: 0 for any free one.
        host: the address to listen on.

    Returns:
        The server, which the caller shuts down and closes, and its port.

    Raises:
        SettingsError: it cannot listen there.
    """
    kind = _ServerIPv6 if ":" in host else _Server
    try:
        server = make_server(host, port, make_wsgi_app(REGISTRY), kind, _Handler)
    except OSError as error:
        raise SettingsError(
            f"DECODER_METRICS_PORT: got {port}; cannot listen there on {host} (DECODER_METRICS_HOST): {error.strerror}"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server, server.server_port
