"""The reach that a fetch reports for each host: reached, not reached, or unknown."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from mission.errors import DecoderError, MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, Fetching, fetching
from tests.servers.misbehaving import MisbehavingServer
from worker.fetch.fetcher import Reach
from worker.fetch.wire import Limits, Unreached


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a listener that accepts connections and sends nothing: a TLS handshake with it never ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def said(rig: Fetching, url: str, *, seconds: float = 10.0) -> list[Reach]:
    """The reach of each host on the way, in the order in which the fetch left them."""
    with suppress(DecoderError):
        rig.fetch(url, seconds=seconds)
    return [reach for _, reach in rig.said]


@pytest.mark.parametrize(
    "target", ["/ok", "/status?code=500", "/status?code=404", "/doc?size=9999999", "/reset", "/silent"]
)
def test_whatever_it_answers_a_host_is_reached(server: MisbehavingServer, target: str) -> None:
    with fetching(server.port, read_timeout=0.2) as rig:
        assert said(rig, server.url(target)) == [Reach.REACHED]


def test_a_host_that_refuses_the_connection_is_not_reached() -> None:
    with fetching(1) as rig:
        assert said(rig, "http://127.0.0.1:1/") == [Reach.UNREACHED]


def test_a_host_that_is_silent_for_the_whole_time_is_not_reached(silent: int) -> None:
    with fetching(silent, connect_timeout=0.2) as rig:
        assert said(rig, f"https://127.0.0.1:{silent}/") == [Reach.UNREACHED]


@pytest.mark.parametrize("left", [0.0, 0.001, 0.2, 0.999])
def test_a_handshake_that_the_deadline_cuts_short_says_nothing(silent: int, left: float) -> None:
    with fetching(silent, connect_timeout=1.0) as rig:
        assert said(rig, f"https://127.0.0.1:{silent}/", seconds=left) == [Reach.UNKNOWN]


def test_a_name_without_an_address_is_not_reached() -> None:
    with fetching(443, lookup=()) as rig:
        assert said(rig, f"https://{NAME}:443/") == [Reach.UNREACHED]


def test_a_lookup_that_the_deadline_cuts_short_says_nothing() -> None:
    asked = Event()

    def stuck(_host: str, _port: int) -> Sequence[str]:
        asked.wait()
        return ()

    with fetching(443, lookup=stuck) as rig:
        assert said(rig, f"https://{NAME}:443/", seconds=0.2) == [Reach.UNKNOWN]
    asked.set()


def test_a_bad_certificate_is_not_reached(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        MisbehavingServer(authority.context("elsewhere.example")) as server,
        fetching(server.port, ca_file=authority.ca_file) as rig,
    ):
        assert said(rig, server.url("/ok")) == [Reach.UNREACHED]


@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/", "http://elsewhere.example/", "ftp://a.example/", "http://u:p@a/"]
)
def test_a_host_that_redirects_to_where_nobody_may_go_has_answered(server: MisbehavingServer, to: str) -> None:
    with fetching(server.port) as rig:
        assert said(rig, server.url(f"/redirect?to={to}")) == [Reach.REACHED]


def test_a_redirect_that_leaves_too_little_time_says_nothing_of_where_it_leads(
    server: MisbehavingServer, silent: int
) -> None:
    with fetching(server.port, silent) as rig:
        url = server.url(f"/redirect?to=https://127.0.0.1:{silent}/")
        assert said(rig, url, seconds=0.3) == [Reach.UNKNOWN, Reach.REACHED]


def test_the_last_try_that_says_something_counts(server: MisbehavingServer) -> None:
    with fetching(server.port, fetch_attempts=2) as rig:
        assert said(rig, server.url("/flaky?times=1&code=503")) == [Reach.REACHED]
        assert len(rig.attempts) == 2


def test_what_ended_a_wait_is_settled_before_it_and_not_by_the_clock_after_it() -> None:
    full = Limits(monotonic() + 2.0, connect=1.0, read=1.0).wait(1.0)
    short = Limits(monotonic() + 0.9, connect=1.0, read=1.0).wait(1.0)
    assert isinstance(full.over(Reason.CONNECT_TIMEOUT, Unreached), Unreached)
    assert short.over(Reason.CONNECT_TIMEOUT, Unreached).reason is Reason.DEADLINE_EXCEEDED
    with pytest.raises(MissionFailed, match="deadline_exceeded"):
        Limits(monotonic(), connect=1.0, read=1.0).wait(1.0)
