"""One slow or dead host never starves the others. The remaining throughput is measured in `benchmarks/`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mission.model import Reason, State, Ticket
from mission.store.ledger import Ledger
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full


class _Slow(BaseHTTPRequestHandler):
    """A server that answers when the test lets it, and counts the most requests that waited at once."""

    protocol_version = "HTTP/1.1"
    let_go: threading.Event
    waiting = 0
    most = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            type(self).waiting += 1
            type(self).most = max(self.most, self.waiting)
        self.let_go.wait(60)
        with self.lock:
            type(self).waiting -= 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def slow_site() -> Iterator[tuple[ThreadingHTTPServer, type[_Slow]]]:
    class Handler(_Slow):
        let_go = threading.Event()

    handler = Handler
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, handler
    finally:
        handler.let_go.set()
        server.shutdown()
        server.server_close()


def test_a_host_that_hangs_holds_no_more_than_its_places_while_the_others_are_served(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    with slow_site() as (slow, handler):
        start_worker(
            allowed_hosts=f"127.0.0.1:{site.port},127.0.0.1:{slow.server_port}",
            host_concurrency="4",
            read_timeout="30",
        )
        stuck = [
            verdict
            for verdict in mission_client.enqueue_many(f"http://127.0.0.1:{slow.server_port}/{n}" for n in range(100))
            if isinstance(verdict, Ticket)
        ]
        list(mission_client.enqueue_many(f"{site.url}/letter.txt?{n}" for n in range(100)))
        wait_for(lambda: mission_client.stats().succeeded == 100, seconds=60, what="the good host's missions")
        assert handler.most <= 4
        handler.let_go.set()
        wait_for(lambda: mission_client.stats().succeeded == 200, seconds=90, what="the slow host's missions")
        assert {mission_client.status(ticket.id).attempts for ticket in stuck} == {1}


def test_a_dead_host_is_paused_for_its_missions_without_using_up_their_attempts(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, ledger: Ledger
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port},127.0.0.1:9", fetch_attempts="1")
    dead = [
        verdict
        for verdict in mission_client.enqueue_many(f"http://127.0.0.1:9/{n}" for n in range(60))
        if isinstance(verdict, Ticket)
    ]
    list(mission_client.enqueue_many(f"{site.url}/letter.txt?{n}" for n in range(60)))
    wait_for(lambda: mission_client.stats().succeeded == 60, seconds=60, what="the good host's missions")
    wait_for(lambda: any(left > 0 for left in ledger.hosts().values()), what="the breaker")
    wait_for(lambda: mission_client.stats().retrying == 60, what="all of the dead host's missions to be put off")
    statuses = [mission_client.status(ticket.id) for ticket in dead]
    assert {status.state for status in statuses} == {State.RETRYING}
    untouched = [status for status in statuses if status.attempts == 0]
    assert untouched
    assert {(status.reason, status.put_off) for status in untouched} == {(None, Reason.HOST_PAUSED)}
    tried = [status for status in statuses if status.attempts]
    assert {status.reason for status in tried} == {Reason.CONNECTION_FAILED}, "a pause hides no real reason"
    assert all(status.next_try_at for status in statuses)
