"""Fetching through real proxies, Debian's tinyproxy and Squid: documents arrive whole, and each failure is reported with its own reason."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mission.errors import MissionFailed
from mission.model import Reason, State, Ticket
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, Fetching, fetching
from tests.servers.misbehaving import DOCUMENT, MIB, MisbehavingServer
from tests.servers.proxies import RealProxy, behind_tls, squid, tinyproxy
from tests.servers.sockets import connections
from tests.servers.tokens import TokenServer
from worker.fetch.fetcher import Reach
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

StartProxy = Callable[..., AbstractContextManager[RealProxy]]
GRACE = 1.0


@pytest.fixture(params=[tinyproxy, squid], ids=["tinyproxy", "squid"])
def start(request: pytest.FixtureRequest) -> StartProxy:
    started: StartProxy = request.param
    return started


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_server(authority: Authority) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(authority.context(NAME, "localhost")) as server:
        yield server


def through(proxy: RealProxy, login: str = "", **options: Any) -> dict[str, Any]:
    return {"egress_proxy": f"http://{login}{login and '@'}127.0.0.1:{proxy.port}"} | options


def failure(rig: Fetching, url: str, seconds: float = 10.0) -> Reason:
    began = time.monotonic()
    with pytest.raises(MissionFailed) as caught:
        rig.fetch(url, seconds=seconds)
    assert time.monotonic() - began < seconds + GRACE
    return caught.value.reason


def test_documents_come_whole_by_http_and_https(
    start: StartProxy, server: MisbehavingServer, tls_server: MisbehavingServer, authority: Authority
) -> None:
    with (
        start() as proxy,
        fetching(server.port, tls_server.port, **through(proxy, ca_file=authority.ca_file)) as rig,
    ):
        for site in (server, tls_server):
            for framing in ("length", "chunked"):
                for size in (0, 1, MIB):
                    assert len(rig.fetch(site.url(f"/doc?size={size}&framing={framing}", NAME)).body) == size
            assert f"Host: {NAME}:{site.port}\r\n".encode() in site.heads[0], "a virtual host is found"
            assert rig.fetch(site.url("/hops?left=2", NAME)).body == DOCUMENT
            assert failure(rig, site.url(f"/doc?size={MIB + 1}", NAME)) is Reason.BODY_TOO_LARGE
            assert failure(rig, site.url("/slow-body", NAME), seconds=1.0) is Reason.DEADLINE_EXCEEDED
            assert failure(rig, site.url("/status?code=407", NAME)) is Reason.HTTP_CLIENT_ERROR
        assert len(rig.fetch(server.url(f"/doc?size={MIB}&framing=close", NAME)).body) == MIB
        assert {visit.reach for visit in rig.visits} == {Reach.REACHED}


def test_a_tunnel_is_kept(start: StartProxy, tls_server: MisbehavingServer, authority: Authority) -> None:
    with start() as proxy, fetching(tls_server.port, **through(proxy, ca_file=authority.ca_file)) as rig:
        for _ in range(5):
            rig.fetch(tls_server.url("/ok", NAME))
    assert tls_server.connections == 1


def test_there_is_tls_within_tls(start: StartProxy, tls_server: MisbehavingServer, authority: Authority) -> None:
    with start() as proxy, behind_tls(authority.context("127.0.0.1"), proxy.port) as port:
        options: dict[str, Any] = {"egress_proxy": f"https://127.0.0.1:{port}", "ca_file": authority.ca_file}
        with fetching(tls_server.port, **options) as rig:
            for size in (0, 1, MIB):
                assert len(rig.fetch(tls_server.url(f"/doc?size={size}", NAME)).body) == size


def test_it_lets_in_who_has_its_login_alone(start: StartProxy, server: MisbehavingServer) -> None:
    login = f"user:{uuid4().hex}"
    with start(login=login) as proxy:
        with fetching(server.port, **through(proxy, login)) as rig:
            assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT
        for wrong in ("", "user:wrong"):
            with fetching(server.port, **through(proxy, wrong)) as rig:
                assert failure(rig, server.url("/ok", NAME)) is Reason.PROXY_LOGIN_REFUSED
                assert (rig.visits[0].reach, rig.visits[0].way_out) == (Reach.UNKNOWN, Reach.UNREACHED)
    assert len(server.heads) == 1


def test_a_login_that_nobody_asks_for_reaches_no_site(start: StartProxy, server: MisbehavingServer) -> None:
    """tinyproxy would forward it in absolute form."""
    with start() as proxy, fetching(server.port, **through(proxy, f"user:{uuid4().hex}")) as rig:
        rig.fetch(server.url("/ok", NAME))
    assert b"authorization" not in server.heads[0].lower()


def test_credentials_and_what_is_asked_for_a_token_go_within_tunnels(
    start: StartProxy, tls_server: MisbehavingServer, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.toml"
    file.touch(0o600)
    with TokenServer(authority.context("login.example")) as tokens, start() as proxy:
        file.write_text(
            f'["{NAME}:{tls_server.port}".oauth2]\ntoken-url = "{tokens.url("login.example")}"\n'
            f'client-id = "decoder"\nclient-secret = "{uuid4().hex}"\n'
        )
        hosts = (f"{NAME}:{tls_server.port}", f"login.example:{tokens.port}")
        options = through(proxy, allowed_hosts=hosts, credentials=file, ca_file=authority.ca_file)
        with fetching(**options) as rig, connections() as seen:
            assert rig.fetch(tls_server.url("/ok", NAME)).body == DOCUMENT
            assert set(seen) == {("127.0.0.1", proxy.port)}
        assert f"Authorization: Bearer {tokens.issued[0]}\r\n".encode() in tls_server.heads[0]


def test_where_it_may_not_go_and_where_nobody_is_are_told_of_the_host(
    start: StartProxy, server: MisbehavingServer
) -> None:
    with start(ports=(1,)) as proxy, fetching(1, server.port, **through(proxy)) as rig:
        for url in ("http://127.0.0.1:1/", server.url("/ok", NAME)):
            assert failure(rig, url) is Reason.PROXY_REFUSED
            assert (rig.visits[-1].reach, rig.visits[-1].way_out) == (Reach.UNREACHED, Reach.REACHED)
    assert not server.connections


def test_squid_looks_up_a_name_that_the_worker_cannot(server: MisbehavingServer) -> None:
    with (
        squid(names=(NAME,)) as proxy,
        fetching(server.port, lookup=(), **through(proxy, egress_resolve="proxy")) as rig,
    ):
        assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT


def test_tinyproxy_looks_up_a_name_that_the_worker_cannot(tls_server: MisbehavingServer, authority: Authority) -> None:
    options: dict[str, Any] = {
        "egress_resolve": "proxy",
        "ca_file": authority.ca_file,
        "allowed_hosts": f"localhost:{tls_server.port}",
    }
    with tinyproxy() as proxy, fetching(lookup=(), **through(proxy, **options)) as rig:
        assert rig.fetch(tls_server.url("/ok", "localhost")).body == DOCUMENT
        assert tls_server.hits["/ok"] == 1


def test_one_that_hangs_ends_in_time_and_says_nothing_of_the_host(start: StartProxy, server: MisbehavingServer) -> None:
    with start() as proxy, fetching(server.port, **through(proxy, connect_timeout=0.5)) as rig:
        proxy.process.send_signal(signal.SIGSTOP)
        try:
            assert failure(rig, server.url("/ok", NAME), seconds=3.0) is Reason.PROXY_FAILED
            assert (rig.visits[0].reach, rig.visits[0].way_out) == (Reach.UNKNOWN, Reach.UNKNOWN)
        finally:
            proxy.process.send_signal(signal.SIGCONT)
        wait_for(lambda: _fetched(rig, server.url("/ok", NAME)), what="the proxy to go on")


def _fetched(rig: Fetching, url: str) -> bool:
    try:
        return rig.fetch(url).body == DOCUMENT
    except MissionFailed:
        return False


@pytest.mark.timeout(120)
def test_while_it_is_away_missions_wait_without_using_up_attempts_and_go_on_when_it_is_back(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    with tinyproxy() as proxy:
        worker = start_worker(
            allowed_hosts=f"127.0.0.1:{site.port},127.0.0.1:1",
            egress_proxy=f"http://127.0.0.1:{proxy.port}",
            max_attempts="1",
        )
        mission_client.wait(mission_client.enqueue(f"{site.url}/letter.txt?first").id, timeout=30)
    missions = [
        verdict.id
        for verdict in mission_client.enqueue_many(f"{site.url}/letter.txt?{number}" for number in range(50))
        if isinstance(verdict, Ticket)
    ]
    wait_for(lambda: "egress proxy paused" in worker.log.read_text(), seconds=20, what="the proxy's pause")
    wait_for(lambda: mission_client.stats().retrying == 50, what="all missions to be put off")
    found = [mission_client.status(id_) for id_ in missions]
    assert {(status.state, status.attempts, status.put_off) for status in found} == {
        (State.RETRYING, 0, Reason.PROXY_FAILED)
    }
    with tinyproxy(port=proxy.port):
        wait_for(lambda: mission_client.stats().succeeded == 51, seconds=60, what="the missions")
    log = worker.log.read_text()
    assert "host paused" not in log
    assert "proxy_failed" in log
