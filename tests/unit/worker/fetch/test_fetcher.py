"""What the fetcher keeps to itself, and what it tells."""

from __future__ import annotations

import logging
import traceback
from uuid import uuid4

import pytest

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from tests.servers.fetching import NAME, fetching
from tests.servers.misbehaving import MisbehavingServer
from worker.fetch.fetcher import Document


def test_a_documents_repr_shows_nothing() -> None:
    assert "secret" not in repr(Document(b"secret", "text/secret", 6))


def test_a_bad_ca_file_stops_the_start() -> None:
    with pytest.raises(SettingsError), fetching(ca_file="/nowhere"):
        pass


@pytest.mark.parametrize(
    "target", ["/ok", "/garbage", "/cut-body", "/folded", "/status?code=503", "/redirect?to=/none"]
)
def test_no_url_in_logs_or_tracebacks(target: str, caplog: pytest.LogCaptureFixture) -> None:
    told, secret = "", uuid4().hex
    with caplog.at_level(logging.DEBUG), MisbehavingServer() as server, fetching(server.port, fetch_attempts=2) as rig:
        try:
            rig.fetch(server.url(f"{target}{'&' if '?' in target else '?'}key={secret}", NAME))
        except MissionFailed as failure:
            told = "".join(traceback.format_exception(failure))
    for text in (caplog.text, told):
        assert secret not in text
        assert NAME not in text


def test_tries_three_addresses_at_most() -> None:
    looked_up = [f"127.0.0.{n}" for n in range(1, 9)]
    with (
        MisbehavingServer(host="127.0.0.8") as server,
        fetching(server.port, lookup=looked_up, allowed_networks="127.0.0.0/8") as rig,
    ):
        with pytest.raises(MissionFailed) as caught:
            rig.fetch(server.url("/ok", NAME))
        assert caught.value.reason is Reason.CONNECTION_FAILED
        assert server.connections == 0
