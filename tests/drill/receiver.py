"""The receiver of alerts: a small web server in place of PagerDuty and Slack."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HEARTBEAT = "heartbeat"


class Receiver:
    """Records deliveries by receiver; a context manager.

    Attributes:
        url: the address to deliver to, followed by a receiver's name.
    """

    def __init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver._take(self.path.strip("/"), json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self._open: dict[str, dict[str, set[str]]] = {}
        self._seen: dict[str, set[str]] = {}
        self._heard_at: dict[str, float] = {}
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Forget the alerts seen so far. Open alerts stay open."""
        with self._lock:
            self._seen = {}

    def seen(self, name: str) -> set[str]:
        """The alerts that reached a receiver since `forget`."""
        with self._lock:
            return set(self._seen.get(name, ()))

    def open(self) -> set[str]:
        """The alerts that were firing in the latest delivery of their group, at any receiver but the heartbeat's."""
        with self._lock:
            alarms = [groups for name, groups in self._open.items() if name != HEARTBEAT]
            return {alert for groups in alarms for alerts in groups.values() for alert in alerts}

    def silent_seconds(self, name: str) -> float:
        """Seconds since the last delivery to a receiver that has had one."""
        with self._lock:
            return time.monotonic() - self._heard_at.get(name, float("-inf"))

    def _take(self, name: str, delivery: dict[str, Any]) -> None:
        firing = {alert["labels"]["alertname"] for alert in delivery["alerts"] if alert["status"] == "firing"}
        with self._lock:
            self._heard_at[name] = time.monotonic()
            self._open.setdefault(name, {})[delivery["groupKey"]] = firing
            self._seen.setdefault(name, set()).update(firing)
