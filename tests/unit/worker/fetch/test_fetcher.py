"""The information that the fetcher keeps private, and the information that it reports."""

from __future__ import annotations

import logging
import time
import traceback
from email.utils import formatdate
from uuid import uuid4

import pytest

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from tests.servers.fetching import NAME, fetching
from tests.servers.misbehaving import MisbehavingServer
from worker.fetch.fetcher import MAX_RETRY_AFTER, Document, parse_retry_after


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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("3600", 3600),
        ("99999", MAX_RETRY_AFTER),
        ("9" * 10, MAX_RETRY_AFTER),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize("left_out", ["", " GMT"])
def test_a_date_to_come_back_is_so_far_from_now(left_out: str) -> None:
    seconds = parse_retry_after(formatdate(time.time() + 100, usegmt=True).removesuffix(left_out))
    assert seconds is not None
    assert 90 <= seconds <= 100


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "-1",
        "1.5",
        "soon",
        "1e3",
        "٣",
        "9" * 11,
        "Fri, 99 Dec 1999 23:59:59 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
    ],
)
def test_retry_after_is_nothing_else(value: str | None) -> None:
    assert parse_retry_after(value) is None
