"""A small web site to try the decoder on: documents with made-up secrets, and several ways in which a fetch can fail."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mission.model import Reason, State

BUSY = "/busy.txt"
MOVED = {"/moved.txt": "/letter.txt"}
_DOCUMENTS = {
    "/letter.txt": """\
Dear reader,
the crates are moved tonight. {* WAREHOUSE: Pier 39, gate C *} Bring the papers.
At the door, say {* PASSWORD: correct-horse-battery-staple *}; they will ask for {* the second word: anvil *}.
""",
    "/map.txt": """\
# Where to dig
{* COORDINATES:
   52.3702 N,
   4.8952 E
*}
Two steps east: {* no category here *}
""",
    "/broken.txt": """\
{* BROKEN: this one is never closed
{* GOOD: still found *}
{**} {* *} are empty, and this one never ends: {* LOST
""",
    "/plain.txt": "Nothing to see here. Braces { and stars * alone are no marker.\n",
    BUSY: "{* API_KEY: sample-0000-1111-2222 *} {* API_KEY: sample-3333-4444-5555 *}\n",
}
_INDEX = "Documents to try the decoder on:\n" + "".join(f"{path}\n" for path in (*_DOCUMENTS, *MOVED, "/missing.txt"))
# Nobody can own this name (RFC 6761), so it is on no allowlist.
OFF_LIMITS = "http://elsewhere.invalid/letter.txt"


@dataclass(frozen=True, slots=True)
class Sample:
    """A mission to try, and how it should end."""

    url: str
    state: State = State.SUCCEEDED
    secrets: int | None = None
    reason: Reason | None = None


class SampleSite:
    """The site on 127.0.0.1; a context manager. Its documents hold only obvious samples.

    Args:
        port: the port to listen on; 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sample-site", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def samples(self) -> list[Sample]:
        """Missions for every kind of document here, a missing one, and one to a host that is off limits."""
        return [
            Sample(f"{self.url}/letter.txt", secrets=3),
            Sample(f"{self.url}/map.txt", secrets=2),
            Sample(f"{self.url}/broken.txt", secrets=1),
            Sample(f"{self.url}/plain.txt", secrets=0),
            Sample(f"{self.url}{BUSY}", secrets=2),
            Sample(f"{self.url}/moved.txt", secrets=3),
            Sample(f"{self.url}/missing.txt", State.FAILED, reason=Reason.HTTP_CLIENT_ERROR),
            Sample(OFF_LIMITS, State.FAILED, reason=Reason.HOST_NOT_ALLOWED),
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a worker may open many connections at once; the default is 5

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.first_visit = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, except a client that disconnected; any other error is a defect."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET. The busy document delays its first client, then asks it to retry after a second."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30.0  # seconds that a kept-alive connection may stay silent
    server_version = "sample-site"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in MOVED:
            self._answer(302, "", ("Location", MOVED[path]))
        elif path == BUSY and self.server.first_visit.acquire(blocking=False):
            time.sleep(0.5)
            self._answer(503, "Come back in a second.\n", ("Retry-After", "1"))
        elif path in _DOCUMENTS:
            self._answer(200, _DOCUMENTS[path])
        elif path == "/":
            self._answer(200, _INDEX)
        else:
            self._answer(404, "No such document.\n")

    def _answer(self, status: int, text: str, *fields: tuple[str, str]) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in (("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *fields):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        """Log nothing: the table shows the outcome of each document."""


def main(port: str) -> None:
    """Run the site until SIGTERM. Process 1 of a container ignores SIGTERM by default, so wait for it explicitly."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with SampleSite(int(port)):
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
