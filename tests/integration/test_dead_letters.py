"""A mission dies because its host is down; the host comes back, an operator replays the mission, and it succeeds."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from mission.model import Reason, State
from mission.operate.results import ResultReader
from producer import MissionClient
from tests.integration.conftest import StartWorker
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full


class Page(http.server.BaseHTTPRequestHandler):
    """One document, for every path."""

    def do_GET(self) -> None:
        body = b"{* KEY: found at last *}"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def decoder(settings: WorkerSettings, *arguments: str) -> list[dict[str, object]]:
    environment = os.environ | {"DECODER_REDIS_URL": settings.redis_url.get_secret_value()}
    command = [sys.executable, "-m", "worker", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dead_mission_is_replayed_and_succeeds(
    mission_client: MissionClient, start_worker: StartWorker, settings: WorkerSettings, reader: ResultReader
) -> None:
    with socket.socket() as taken:  # bound but not yet listening, so that nobody else takes the port
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        start_worker(allowed_hosts=f"127.0.0.1:{port}", max_attempts="1", fetch_attempts="1")
        ticket = mission_client.enqueue(f"http://127.0.0.1:{port}/")
        status = mission_client.wait(ticket.id, timeout=60)
        assert (status.state, status.reason) == (State.DEAD, Reason.CONNECTION_FAILED)
    with http.server.HTTPServer(("127.0.0.1", port), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (letter,) = decoder(settings, "dead-letters", "list", "--reason", "connection_failed")
        assert letter["id"] == ticket.id
        answer = decoder(settings, "dead-letters", "replay", ticket.id, "--why", "it is up again")
        assert answer == [{"id": ticket.id, "replayed": True}]
        assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
        server.shutdown()
    assert [secret.value for secret in reader.reveal(ticket.id, reason="a test")] == ["found at last"]
