"""Tunnels through a proxy that works, and through each kind that does not."""

from __future__ import annotations

import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, Fetching, fetching
from tests.servers.misbehaving import DOCUMENT, MisbehavingServer
from tests.servers.proxies import (
    OPEN,
    Manner,
    PlayingProxy,
    behind_tls,
    closes,
    drips,
    floods,
    hangs,
    opens_and_hangs,
    refuses,
    resets,
    says,
)
from tests.servers.sockets import connections
from worker.egress import ProxyUrl
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Reach
from worker.fetch.proxy import NOWHERE, RETURN_SECONDS, NoWayOut, Proxy, ProxyFailed
from worker.fetch.transport import tls_context
from worker.fetch.wire import ConnectFailed, Wait

ADDRESS = "192.0.2.80"  # the requested target of the proxy, which does not really connect
UNUSED = Resolver(lambda _host, _port: ())
GRACE = 1.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def proxy() -> Iterator[PlayingProxy]:
    """A proxy that plays http hosts."""
    with PlayingProxy(MisbehavingServer()) as proxy:
        yield proxy


@pytest.fixture
def tls_proxy(authority: Authority) -> Iterator[PlayingProxy]:
    """A proxy that plays https hosts; the connection to the proxy itself needs no TLS."""
    with PlayingProxy(MisbehavingServer(authority.context(NAME))) as proxy:
        yield proxy


def through(proxy: PlayingProxy, **options: Any) -> dict[str, Any]:
    """Settings for `fetching` through the proxy to `NAME`, which is at `ADDRESS`."""
    return {
        "egress_proxy": proxy.setting(),
        "allowed_hosts": (NAME, "192.0.2.81"),
        "allowed_networks": ("192.0.2.0/24",),
        "lookup": (ADDRESS,),
    } | options


def failure(rig: Fetching, url: str = f"http://{NAME}/ok", seconds: float = 10.0) -> MissionFailed:
    with pytest.raises(MissionFailed) as caught:
        rig.fetch(url, seconds=seconds)
    return caught.value


# Tunnels.


def test_https_goes_through_a_tunnel_to_the_checked_address(tls_proxy: PlayingProxy, authority: Authority) -> None:
    with fetching(**through(tls_proxy, ca_file=authority.ca_file)) as rig:
        assert rig.fetch(f"https://{NAME}/ok").body == DOCUMENT
    assert tls_proxy.heads == [f"CONNECT {ADDRESS}:443 HTTP/1.1\r\nHost: {ADDRESS}:443\r\n\r\n".encode()]


def test_the_certificate_is_to_be_the_real_hosts(tmp_path: Path, authority: Authority) -> None:
    with (
        PlayingProxy(MisbehavingServer(authority.context("other.example"))) as proxy,
        fetching(**through(proxy, ca_file=authority.ca_file)) as rig,
    ):
        assert failure(rig, f"https://{NAME}/ok").reason is Reason.TLS_FAILURE


def test_http_goes_through_a_tunnel_as_well_and_keeps_its_host(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy)) as rig:
        assert rig.fetch(f"http://{NAME}/ok").body == DOCUMENT
    assert proxy.asked == [f"{ADDRESS}:80"]
    (head,) = proxy.site.heads
    assert head.startswith(b"GET /ok HTTP/1.1\r\n")
    assert f"Host: {NAME}\r\n".encode() in head


def test_the_login_goes_to_the_proxy_and_not_to_the_site(proxy: PlayingProxy) -> None:
    login = f"{uuid4().hex}:{uuid4().hex}"
    with fetching(**through(proxy, egress_proxy=proxy.setting(login))) as rig:
        rig.fetch(f"http://{NAME}/ok")
    basic = b64encode(login.encode())
    assert b"Proxy-Authorization: Basic " + basic + b"\r\n" in proxy.heads[0]
    assert basic not in proxy.site.heads[0]
    assert b"proxy" not in proxy.site.heads[0].lower()


def test_to_a_proxy_of_https_there_is_tls_within_tls(tls_proxy: PlayingProxy, authority: Authority) -> None:
    login = f"user:{uuid4().hex}"
    with (
        behind_tls(authority.context("127.0.0.1"), tls_proxy.port) as port,
        fetching(
            **through(
                tls_proxy,
                egress_proxy=f"https://{login}@127.0.0.1:{port}",
                ca_file=authority.ca_file,
                max_bytes=4 * 1024 * 1024,
            )
        ) as rig,
    ):
        for size in (0, 1, 100_000, 3_000_000):
            assert len(rig.fetch(f"https://{NAME}/doc?size={size}").body) == size
            assert len(rig.fetch(f"https://{NAME}/doc?size={size}&framing=chunked").body) == size
        assert tls_proxy.asked == [f"{ADDRESS}:443"], "connections are kept"


def test_http_goes_through_a_proxy_of_https(proxy: PlayingProxy, authority: Authority) -> None:
    with (
        behind_tls(authority.context("127.0.0.1"), proxy.port) as port,
        fetching(**through(proxy, egress_proxy=f"https://127.0.0.1:{port}", ca_file=authority.ca_file)) as rig,
    ):
        assert rig.fetch(f"http://{NAME}/ok").body == DOCUMENT


def test_a_proxy_whose_certificate_is_not_trusted_is_told_nothing(
    proxy: PlayingProxy, authority: Authority, tmp_path: Path
) -> None:
    with (
        behind_tls(authority.context("other.example"), proxy.port) as port,
        fetching(**through(proxy, egress_proxy=f"https://127.0.0.1:{port}", ca_file=authority.ca_file)) as rig,
    ):
        assert failure(rig).reason is Reason.PROXY_FAILED
    assert not proxy.heads


def test_tunnels_are_kept_and_each_is_for_one_host(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy)) as rig:
        for _ in range(3):
            rig.fetch(f"http://{NAME}/ok")
            rig.fetch("http://192.0.2.81/ok")
    assert proxy.asked == [f"{ADDRESS}:80", "192.0.2.81:80"]


def test_each_hop_of_a_redirect_is_checked_and_has_its_own_tunnel(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy)) as rig:
        assert rig.fetch(f"http://{NAME}/redirect?to=http://192.0.2.81/ok").body == DOCUMENT
        assert failure(rig, f"http://{NAME}/redirect?to=http://127.0.0.1/").reason is Reason.HOST_NOT_ALLOWED
    assert proxy.asked == [f"{ADDRESS}:80", "192.0.2.81:80", f"{ADDRESS}:80"]


def test_an_ipv6_address_is_asked_for_in_brackets(proxy: PlayingProxy) -> None:
    options = through(proxy, allowed_networks=("2001:db8::/32",), lookup=("2001:db8::80",))
    with fetching(**options) as rig:
        assert rig.fetch(f"http://{NAME}/ok").body == DOCUMENT
    assert proxy.asked == ["[2001:db8::80]:80"]


def test_an_address_that_the_proxy_does_not_reach_is_followed_by_the_next(proxy: PlayingProxy) -> None:
    proxy.manners["192.0.2.79"] = refuses("503 Service Unavailable")
    with fetching(**through(proxy, lookup=("192.0.2.79", ADDRESS))) as rig:
        assert rig.fetch(f"http://{NAME}/ok").body == DOCUMENT
    assert proxy.asked == ["192.0.2.79:80", f"{ADDRESS}:80"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
def test_the_guard_holds_and_where_the_proxy_is_opens_nothing(proxy: PlayingProxy, address: str) -> None:
    with connections() as seen, fetching(**through(proxy, lookup=(ADDRESS, address))) as rig:
        assert failure(rig).reason is Reason.BLOCKED_ADDRESS
        assert not seen


def test_nothing_but_the_proxy_is_connected_to(proxy: PlayingProxy) -> None:
    with connections() as seen, fetching(**through(proxy)) as rig:
        rig.fetch(f"http://{NAME}/redirect?to=http://192.0.2.81/ok")
        assert set(seen) == {("127.0.0.1", proxy.port)}


# Names for the proxy to look up.


def test_a_proxy_that_resolves_is_handed_the_name_and_nobody_looks_it_up(
    tls_proxy: PlayingProxy, authority: Authority
) -> None:
    options = through(tls_proxy, egress_resolve="proxy", ca_file=authority.ca_file, lookup=())
    with connections() as seen, fetching(**options) as rig:
        assert rig.fetch(f"https://{NAME}/ok").body == DOCUMENT
        assert set(seen) == {("127.0.0.1", tls_proxy.port)}
    assert tls_proxy.asked == [f"{NAME}:443"]


def test_for_http_it_is_handed_the_name_too(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy, egress_resolve="proxy", lookup=())) as rig:
        assert rig.fetch(f"http://{NAME}/ok").body == DOCUMENT
    assert proxy.asked == [f"{NAME}:80"]


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
def test_an_address_in_a_url_is_checked_whoever_resolves(proxy: PlayingProxy, host: str) -> None:
    options = through(proxy, egress_resolve="proxy", allowed_hosts=(host,), lookup=())
    with fetching(**options) as rig:
        assert failure(rig, f"http://{host}/").reason is Reason.BLOCKED_ADDRESS
    assert not proxy.asked


def test_an_ipv6_address_in_a_url_is_handed_on_in_brackets(proxy: PlayingProxy) -> None:
    host = "[2606:2800:220:1::1]"
    with fetching(**through(proxy, egress_resolve="proxy", allowed_hosts=(host,), lookup=())) as rig:
        assert rig.fetch(f"http://{host}/ok").body == DOCUMENT
    assert proxy.asked == [f"{host}:80"]


def test_without_that_a_name_is_handed_to_nobody(proxy: PlayingProxy) -> None:
    own = Proxy(ProxyUrl.parse(proxy.setting()), tls_context(None), UNUSED, resolves=False)
    with pytest.raises(ValueError, match="does not appear to be"):
        own.open(NAME, 80, Wait(1.0, cut_short=False), time.monotonic() + 1)
    assert not proxy.connections


# A proxy's own fault says nothing about the host; the answer of a working proxy does.

NOT_REACHED = (Reach.UNKNOWN, Reach.UNREACHED)
NO_ANSWER = (Reach.UNKNOWN, Reach.UNKNOWN)
NOT_OPENED = (Reach.UNREACHED, Reach.REACHED)


def said(proxy: PlayingProxy, manner: Manner, *, answers_others: bool = False) -> tuple[Reason, Reach, Reach]:
    """The reason, and the reach of the host and of the proxy, if the proxy has this manner."""
    options = through(proxy, connect_timeout=0.5, read_timeout=0.5)
    with fetching(**options) as rig:
        if answers_others:
            rig.fetch("http://192.0.2.81/ok")
        proxy.manner = manner
        began = time.monotonic()
        caught = failure(rig)
        assert time.monotonic() - began < 0.5 + GRACE
        assert isinstance(caught, (ProxyFailed, ConnectFailed)), type(caught)
        assert (caught.retry_after is None) == isinstance(caught, ConnectFailed)
        visit = rig.visits[-1]
        return caught.reason, visit.reach, visit.way_out


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "404 Not Found", "500 Oops", "502 Bad Gateway", "503 Unavailable", "302 Found"]
)
def test_a_proxy_that_refuses_a_host_speaks_of_that_host(proxy: PlayingProxy, status: str) -> None:
    assert said(proxy, refuses(status)) == (Reason.PROXY_REFUSED, *NOT_OPENED)


def test_a_tunnel_in_which_somebody_speaks_first_is_none(proxy: PlayingProxy) -> None:
    assert said(proxy, says(OPEN + b"HTTP/1.1 200 OK\r\n\r\n{* forged *}")) == (Reason.PROXY_REFUSED, *NOT_OPENED)


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "401 Unauthorized"])
def test_a_proxy_that_wants_a_login_lets_nobody_out(proxy: PlayingProxy, status: str) -> None:
    assert said(proxy, refuses(status)) == (Reason.PROXY_LOGIN_REFUSED, *NOT_REACHED)


def test_one_that_wants_a_login_for_a_host_alone_is_a_way_out_for_others(proxy: PlayingProxy) -> None:
    asks = refuses("407 Proxy Authentication Required")
    assert said(proxy, asks, answers_others=True) == (Reason.PROXY_LOGIN_REFUSED, *NO_ANSWER)


BROKEN: dict[str, Manner] = {
    "closes": closes,
    "resets": resets,
    "garbage": says(bytes(range(256)) * 8),
    "not HTTP/1": says(b"HTTP/2 200 OK\r\n\r\n"),
    "half a head": says(b"HTTP/1.1 200 OK\r\nX-Header:"),
    "an endless head": floods,
    "a fake field": says(b"HTTP/1.1 200 OK\r\nno field\r\n\r\n"),
}
SILENT: dict[str, Manner] = {"hangs": hangs, "drips": drips}


@pytest.mark.parametrize("name", BROKEN | SILENT)
def test_a_proxy_that_answers_nobody_says_nothing_of_a_host(proxy: PlayingProxy, name: str) -> None:
    assert said(proxy, (BROKEN | SILENT)[name]) == (Reason.PROXY_FAILED, *NO_ANSWER)


@pytest.mark.parametrize("name", BROKEN)
def test_one_that_breaks_off_for_a_host_alone_refuses_it(proxy: PlayingProxy, name: str) -> None:
    assert said(proxy, BROKEN[name], answers_others=True) == (Reason.PROXY_REFUSED, *NOT_OPENED)


def test_one_that_answers_others_meanwhile_and_is_silent_to_a_host_waits_for_that_host(proxy: PlayingProxy) -> None:
    """A proxy behaves so for a host that drops packets: a mission for such a host must not look like a broken proxy."""
    proxy.manners[ADDRESS] = hangs
    own = Proxy(ProxyUrl.parse(proxy.setting()), tls_context(None), UNUSED, resolves=False)

    def opened(host: str) -> Reason | None:
        try:
            own.open(host, 80, Wait(1.0, cut_short=False), time.monotonic() + 1).close()
        except MissionFailed as failed:
            return failed.reason
        return None

    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(opened, ADDRESS)
        while not silent.done():
            assert opened("192.0.2.81") is None
            wait([silent], timeout=0.1)
        assert silent.result() is Reason.CONNECT_TIMEOUT


def test_a_proxy_that_is_not_there_is_no_hosts_failure(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy, egress_proxy="http://127.0.0.1:1")) as rig:
        caught = failure(rig)
    assert isinstance(caught, NoWayOut)
    assert RETURN_SECONDS[0] <= (caught.retry_after or 0) <= RETURN_SECONDS[1]
    assert (rig.visits[0].reach, rig.visits[0].way_out) == NOT_REACHED


def test_a_proxy_without_an_address_is_none(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy, egress_proxy="http://nowhere.invalid:3128")) as rig:
        assert failure(rig).reason is Reason.PROXY_FAILED
    assert (rig.visits[0].reach, rig.visits[0].way_out) == NOT_REACHED


def test_where_the_proxys_name_has_several_addresses_each_is_tried(proxy: PlayingProxy) -> None:
    place = ProxyUrl.parse(f"http://proxy.example:{proxy.port}")
    resolver = Resolver(lambda _host, _port: ("127.0.0.9", "::1", "127.0.0.1"))
    own = Proxy(place, tls_context(None), resolver, resolves=False)
    own.open(ADDRESS, 80, Wait(3.0, cut_short=False), time.monotonic() + 3).close()
    assert proxy.asked == [f"{ADDRESS}:80"]


def test_what_the_deadline_cuts_short_says_nothing(proxy: PlayingProxy) -> None:
    proxy.manner = hangs
    with fetching(**through(proxy, connect_timeout=5.0)) as rig:
        assert failure(rig, seconds=0.3).reason is Reason.DEADLINE_EXCEEDED
    assert (rig.visits[0].reach, rig.visits[0].way_out) == NO_ANSWER


def test_a_proxy_that_is_silent_in_its_own_handshake_is_not_reached(proxy: PlayingProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        setting = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with fetching(**through(proxy, egress_proxy=setting, connect_timeout=0.3)) as rig:
            assert failure(rig).reason is Reason.PROXY_FAILED
        assert (rig.visits[0].reach, rig.visits[0].way_out) == NOT_REACHED


def test_a_tunnel_that_leads_nowhere_is_the_hosts_silence(tls_proxy: PlayingProxy, authority: Authority) -> None:
    tls_proxy.manner = opens_and_hangs
    with fetching(**through(tls_proxy, connect_timeout=0.5, ca_file=authority.ca_file)) as rig:
        assert failure(rig, f"https://{NAME}/ok").reason is Reason.CONNECT_TIMEOUT
    assert (rig.visits[0].reach, rig.visits[0].way_out) == NOT_OPENED


def test_caps_and_reasons_of_answers_are_as_ever(proxy: PlayingProxy) -> None:
    with fetching(**through(proxy, max_bytes=1000, read_timeout=0.5)) as rig:
        for target, reason in {
            "/doc?size=1001": Reason.BODY_TOO_LARGE,
            "/status?code=404": Reason.HTTP_CLIENT_ERROR,
            "/status?code=407": Reason.HTTP_CLIENT_ERROR,
            "/status?code=503": Reason.HTTP_SERVER_ERROR,
            "/garbage": Reason.MALFORMED_RESPONSE,
            "/silent": Reason.READ_TIMEOUT,
            "/reset": Reason.CONNECTION_FAILED,
        }.items():
            assert failure(rig, f"http://{NAME}{target}").reason is reason, target
            assert (rig.visits[-1].reach, rig.visits[-1].way_out) == (Reach.REACHED, Reach.REACHED)
        assert failure(rig, f"http://{NAME}/slow-chunks", seconds=0.4).reason is Reason.DEADLINE_EXCEEDED


# `doctor`


def test_its_check_leads_nowhere(proxy: PlayingProxy) -> None:
    place = ProxyUrl.parse(proxy.setting())
    own = Proxy(place, tls_context(None), UNUSED, resolves=False)
    for manner in (refuses("403 Forbidden"), refuses("503 Unavailable"), says(OPEN)):
        proxy.manner = manner
        own.check(1.0)
    assert proxy.asked == [f"{NOWHERE}:443"] * 3
    with socket.socket() as sock, pytest.raises(OSError):  # noqa: PT011 (which one is the system's to say)
        sock.connect((NOWHERE, 443))
