"""The fetcher against real servers that behave, misbehave and stall."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

import worker.fetch.dns
from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, Fetching, fetching
from tests.servers.misbehaving import DOCUMENT, MIB, MisbehavingServer
from worker.fetch.fetcher import FREE_BYTES

GRACE = 1.0  # how far a fetch may exceed its deadline


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def fresh() -> Iterator[MisbehavingServer]:
    """A server whose counts begin at 0."""
    with MisbehavingServer() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(authority.context(NAME, "127.0.0.1")) as server:
        yield server


@pytest.fixture
def rig(server: MisbehavingServer) -> Iterator[Fetching]:
    with fetching(server.port) as rig:
        yield rig


def failure(rig: Fetching, url: str, seconds: float = 5.0) -> MissionFailed:
    """The failure of a fetch that must fail, within its time."""
    started = time.monotonic()
    with pytest.raises(MissionFailed) as caught:
        rig.fetch(url, seconds=seconds)
    assert time.monotonic() - started < seconds + GRACE
    assert url not in repr(caught.value)
    return caught.value


# What is well.


def test_brings_body_type_and_size(rig: Fetching, server: MisbehavingServer) -> None:
    document = rig.fetch(server.url("/ok"))
    assert (document.body, document.content_type, document.wire_bytes) == (
        DOCUMENT,
        "text/plain; charset=utf-8",
        len(DOCUMENT),
    )
    assert rig.attempts == ["ok"]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 65536, MIB])
def test_reads_each_framing_to_its_end(rig: Fetching, server: MisbehavingServer, framing: str, size: int) -> None:
    assert len(rig.fetch(server.url(f"/doc?size={size}&framing={framing}")).body) == size


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_refuses_one_byte_more_than_the_cap(rig: Fetching, server: MisbehavingServer, framing: str) -> None:
    assert failure(rig, server.url(f"/doc?size={MIB + 1}&framing={framing}")).reason is Reason.BODY_TOO_LARGE


def test_joins_tiny_chunks(rig: Fetching, server: MisbehavingServer) -> None:
    assert rig.fetch(server.url("/doc?size=20000&framing=chunked&step=1")).body == b"x" * 20000


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip,br", "zstd,gzip"])
@pytest.mark.parametrize("size", [0, 1, MIB])
def test_undoes_codings_those_too_that_it_did_not_ask_for(
    rig: Fetching, server: MisbehavingServer, coding: str, size: int
) -> None:
    assert len(rig.fetch(server.url(f"/doc?size={size}&coding={coding}")).body) == size


@pytest.mark.parametrize(
    ("target", "rooms"),
    [
        (f"/doc?size={FREE_BYTES}", set()),
        (f"/doc?size={FREE_BYTES}&framing=chunked", set()),
        (f"/doc?size={FREE_BYTES}&coding=gzip", set()),
        (f"/doc?size={FREE_BYTES + 1}", {FREE_BYTES + 1}),
        (f"/doc?size={FREE_BYTES + 1}&framing=chunked", {MIB}),
        (f"/doc?size={FREE_BYTES + 1}&framing=close", {MIB}),
        (f"/doc?size={FREE_BYTES + 1}&coding=gzip", {MIB}),
        ("/doc?size=1&coding=br", {MIB}),
        ("/doc?size=1&coding=gzip,zstd", {MIB}),
    ],
)
def test_asks_for_memory_before_it_reads_more_than_is_free(
    rig: Fetching, server: MisbehavingServer, target: str, rooms: set[int]
) -> None:
    rig.fetch(server.url(target))
    assert set(rig.rooms) == rooms


@pytest.mark.parametrize("target", ["/status?code=204", "/status?code=205", "/status?code=200"])
def test_takes_an_empty_answer_of_success(rig: Fetching, server: MisbehavingServer, target: str) -> None:
    assert rig.fetch(server.url(target)).body == b""


def test_is_honest_and_carries_nothing_along(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port) as rig:
        rig.fetch(fresh.url("/hops?left=1"))
    lines = [head.decode().split("\r\n") for head in fresh.heads]
    for head, target in zip(lines, ["/hops?left=1", "/hops?left=0"], strict=True):
        assert head[0] == f"GET {target} HTTP/1.1"
        assert head[1:3] == [f"Host: 127.0.0.1:{fresh.port}", head[2]]
        assert head[2].startswith("User-Agent: mission-decoder/")
        assert head[3:] == ["Accept: */*", "Accept-Encoding: gzip, deflate", "", ""]


def test_sends_the_target_as_it_was_checked(fresh: MisbehavingServer) -> None:
    target = "/ok?signature=a%2fb%2Fc|[d]^{}"
    with fetching(fresh.port) as rig:
        rig.fetch(fresh.url(target))
    assert fresh.heads[0].split(b" ")[1].decode() == target


def test_reaches_an_ipv6_address() -> None:
    try:
        server = MisbehavingServer(host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server, fetching(server.port) as rig:
        assert rig.fetch(server.url("/ok")).body == DOCUMENT


# Connections.


@pytest.mark.parametrize("secure", ["plain", "TLS"])
def test_uses_one_connection_for_many_fetches(authority: Authority, secure: str) -> None:
    tls = authority.context(NAME) if secure == "TLS" else None
    with MisbehavingServer(tls) as server, fetching(server.port, ca_file=authority.ca_file) as rig:
        for framing in ("length", "chunked") * 10:
            rig.fetch(server.url(f"/doc?size=1000&framing={framing}", NAME))
        assert server.connections == 1


def test_keeps_as_many_connections_as_fetches_to_a_host(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port, host_concurrency=4) as rig, ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            bodies = list(pool.map(lambda _: rig.fetch(fresh.url("/ok")).body, range(4)))
            assert bodies == [DOCUMENT] * 4
    assert fresh.connections <= 4


def test_a_kept_connection_that_is_gone_is_no_failure(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port) as rig:
        for _ in range(3):
            assert rig.fetch(fresh.url("/closes-later")).body == DOCUMENT
        assert rig.attempts == ["ok"] * 3


@pytest.mark.parametrize("secure", ["plain", "TLS"])
def test_an_answer_nobody_asked_for_is_nobodys(authority: Authority, secure: str) -> None:
    tls = authority.context(NAME) if secure == "TLS" else None
    with MisbehavingServer(tls) as server, fetching(server.port, ca_file=authority.ca_file) as rig:
        rig.fetch(server.url("/two-answers", NAME))
        assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT
        assert server.connections == 2


def test_goes_on_to_the_next_address_when_one_takes_no_connection(server: MisbehavingServer) -> None:
    with fetching(server.port, lookup=("::1", "127.0.0.1")) as rig:
        assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT
        assert rig.attempts == ["ok"]


def test_comes_back_to_the_address_that_answered(fresh: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.fetch.dns, "FRESH_SECONDS", 0.0)
    orders = iter([("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
    with fetching(fresh.port, lookup=lambda _host, _port: next(orders)) as rig:
        rig.fetch(fresh.url("/ok", NAME))
        rig.fetch(fresh.url("/ok", NAME))
    assert fresh.connections == 1


# Time.


@pytest.mark.parametrize("target", ["/slow-status", "/slow-headers", "/slow-body", "/slow-chunks", "/slow-continue"])
def test_a_drip_ends_with_the_deadline(rig: Fetching, server: MisbehavingServer, target: str) -> None:
    assert failure(rig, server.url(target), seconds=0.6).reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("target", ["/silent", "/stalled-body"])
def test_silence_ends_with_the_read_timeout(server: MisbehavingServer, target: str) -> None:
    with fetching(server.port, read_timeout=0.3) as rig:
        started = time.monotonic()
        assert failure(rig, server.url(target), seconds=20).reason is Reason.READ_TIMEOUT
        assert time.monotonic() - started < 10


def test_the_deadline_holds_over_the_read_timeout(rig: Fetching, server: MisbehavingServer) -> None:
    assert failure(rig, server.url("/silent"), seconds=0.3).reason is Reason.DEADLINE_EXCEEDED


def test_the_deadline_holds_over_retries_and_their_waits(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port, fetch_attempts=10) as rig:
        reason = failure(rig, fresh.url("/status?code=503"), seconds=1).reason
        assert reason in (Reason.HTTP_SERVER_ERROR, Reason.DEADLINE_EXCEEDED)
        assert len(rig.attempts) > 1


def test_no_time_is_no_try_on_the_network(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port) as rig:
        assert failure(rig, fresh.url("/ok"), seconds=0).reason is Reason.DEADLINE_EXCEEDED
    assert fresh.connections == 0


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that accepts connections and never reads or writes."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose queue of connections is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port))
        yield port
        for sock in waiting:
            sock.close()


def test_a_connection_nobody_takes_ends_with_the_connect_timeout(full: int) -> None:
    with fetching(full, connect_timeout=0.3) as rig:
        assert failure(rig, f"http://127.0.0.1:{full}/").reason is Reason.CONNECT_TIMEOUT


def test_a_handshake_nobody_answers_ends_with_the_connect_timeout(deaf: int) -> None:
    with fetching(deaf, connect_timeout=0.3) as rig:
        assert failure(rig, f"https://127.0.0.1:{deaf}/").reason is Reason.CONNECT_TIMEOUT


@pytest.mark.parametrize(("connect", "reason"), [(0.5, Reason.CONNECT_TIMEOUT), (60, Reason.DEADLINE_EXCEEDED)])
def test_a_handshake_byte_by_byte_ends_in_time(connect: float, reason: Reason) -> None:
    def drip(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, suppress(OSError):
            # The head of a TLS record of 16 KiB: the client waits for the rest of it.
            for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 200:
                sock.send(bytes([byte]))
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        with fetching(port, connect_timeout=connect) as rig:
            assert failure(rig, f"https://127.0.0.1:{port}/", seconds=1).reason is reason
        thread.join(timeout=20)


def test_a_port_nobody_listens_on_is_a_failed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with fetching(port) as rig:
        assert failure(rig, f"http://127.0.0.1:{port}/").reason is Reason.CONNECTION_FAILED


# Space.


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/endless-line", Reason.MALFORMED_RESPONSE),
        ("/endless-headers", Reason.MALFORMED_RESPONSE),
        ("/endless-header", Reason.MALFORMED_RESPONSE),
        ("/endless-continue", Reason.MALFORMED_RESPONSE),
        ("/endless-body", Reason.BODY_TOO_LARGE),
        ("/endless-chunks", Reason.BODY_TOO_LARGE),
        ("/endless-tiny-chunks", Reason.MALFORMED_RESPONSE),
        ("/endless-extensions", Reason.MALFORMED_RESPONSE),
        ("/endless-extension", Reason.MALFORMED_RESPONSE),
        ("/endless-trailers", Reason.MALFORMED_RESPONSE),
        ("/told-too-large", Reason.BODY_TOO_LARGE),
    ],
)
def test_what_has_no_end_ends_at_its_cap(rig: Fetching, server: MisbehavingServer, target: str, reason: Reason) -> None:
    assert failure(rig, server.url(target), seconds=20).reason is reason


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw-deflate", "br", "zstd", "gzip,gzip", "zstd,br"])
def test_a_bomb_ends_at_the_cap(rig: Fetching, server: MisbehavingServer, coding: str) -> None:
    declared = coding.replace("raw-", "")
    url = server.url(f"/bomb?mib=64&coding={coding}&declared={declared}")
    assert failure(rig, url, seconds=20).reason is Reason.BODY_TOO_LARGE


# Connections that end, and what is not HTTP.


@pytest.mark.parametrize(
    "target",
    [
        "/empty",
        "/reset",
        "/reset-body",
        "/cut-body",
    ],
)
def test_a_cut_connection_is_a_failed_one(rig: Fetching, server: MisbehavingServer, target: str) -> None:
    assert failure(rig, server.url(target)).reason is Reason.CONNECTION_FAILED


@pytest.mark.parametrize(
    "target",
    [
        "/garbage",
        "/folded",
        "/lengths-differ",
        "/chunk-size-no-number",
        "/unknown-coding",
        "/false-gzip",
        "/doc?size=9&coding=gzip,gzip,gzip",
        "/no-location",
        "/two-locations",
        "/partial",
        "/not-modified",
        "/status?code=300",
        "/status?code=305",
    ],
)
def test_what_is_not_http_as_it_should_be_is_refused(rig: Fetching, server: MisbehavingServer, target: str) -> None:
    assert failure(rig, server.url(target)).reason is Reason.MALFORMED_RESPONSE


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, Reason.HTTP_CLIENT_ERROR),
        (401, Reason.HTTP_CLIENT_ERROR),
        (404, Reason.HTTP_CLIENT_ERROR),
        (408, Reason.READ_TIMEOUT),
        (410, Reason.HTTP_CLIENT_ERROR),
        (425, Reason.HTTP_SERVER_ERROR),
        (429, Reason.RATE_LIMITED),
        (451, Reason.HTTP_CLIENT_ERROR),
        (500, Reason.HTTP_SERVER_ERROR),
        (503, Reason.HTTP_SERVER_ERROR),
        (599, Reason.HTTP_SERVER_ERROR),
    ],
)
def test_a_status_says_why(rig: Fetching, server: MisbehavingServer, code: int, reason: Reason) -> None:
    assert failure(rig, server.url(f"/status?code={code}")).reason is reason
    assert rig.attempts == [reason.value]


# TLS.


def test_checks_the_certificate_of_the_real_host(tls_server: MisbehavingServer, authority: Authority) -> None:
    with fetching(tls_server.port, ca_file=authority.ca_file) as rig:
        assert rig.fetch(tls_server.url("/ok", NAME)).body == DOCUMENT
        assert rig.fetch(tls_server.url("/ok")).body == DOCUMENT


def test_names_the_real_host_in_the_handshake(authority: Authority) -> None:
    seen: list[str | None] = []
    context = authority.context(NAME)
    context.sni_callback = lambda _sock, name, _context: seen.append(name)
    with MisbehavingServer(context) as server, fetching(server.port, ca_file=authority.ca_file) as rig:
        rig.fetch(server.url("/ok", NAME))
    assert seen == [NAME]


@pytest.mark.parametrize("bad", ["expired", "not yet valid", "wrong host", "self-signed", "other authority", "old TLS"])
def test_bad_tls_is_refused(authority: Authority, tmp_path: Path, bad: str) -> None:
    context = {
        "expired": lambda: authority.context(NAME, days=(-2, -1)),
        "not yet valid": lambda: authority.context(NAME, days=(2, 30)),
        "wrong host": lambda: authority.context("other.example"),
        "self-signed": lambda: authority.context(NAME, self_signed=True),
        "other authority": lambda: Authority(tmp_path, "another").context(NAME),
        "old TLS": lambda: authority.context(NAME, version=ssl.TLSVersion.TLSv1_1),
    }[bad]()
    with MisbehavingServer(context) as server, fetching(server.port, ca_file=authority.ca_file) as rig:
        assert failure(rig, server.url("/ok", NAME)).reason is Reason.TLS_FAILURE
        assert not server.hits


def test_plain_http_where_tls_should_be_is_refused(server: MisbehavingServer, rig: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.recv(4096)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with fetching(port) as rig:
            assert failure(rig, f"https://127.0.0.1:{port}/").reason is Reason.TLS_FAILURE
        thread.join(timeout=10)


def test_a_tls_body_without_length_that_ends_without_goodbye_is_cut(
    tls_server: MisbehavingServer, authority: Authority
) -> None:
    with fetching(tls_server.port, ca_file=authority.ca_file) as rig:
        assert failure(rig, tls_server.url("/old-http", NAME)).reason is Reason.CONNECTION_FAILED


# Redirects.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_follows_redirects_without_reading_their_body(rig: Fetching, server: MisbehavingServer, code: int) -> None:
    assert rig.fetch(server.url(f"/redirect?code={code}&to=/ok")).body == DOCUMENT


def test_follows_as_many_redirects_as_it_may(rig: Fetching, server: MisbehavingServer) -> None:
    assert rig.fetch(server.url("/hops?left=3")).body == DOCUMENT
    assert failure(rig, server.url("/hops?left=4")).reason is Reason.TOO_MANY_REDIRECTS


def test_a_loop_of_redirects_ends(fresh: MisbehavingServer) -> None:
    with fetching(fresh.port, max_redirects=2) as rig:
        assert failure(rig, fresh.url("/loop")).reason is Reason.TOO_MANY_REDIRECTS
    assert fresh.hits["/loop"] == 3


def test_takes_a_location_in_utf_8(rig: Fetching, fresh: MisbehavingServer) -> None:
    with fetching(fresh.port) as rig:
        rig.fetch(fresh.url("/redirect?to=/doc?text=%C3%A4"))
    assert fresh.hits["/doc?text=%C3%A4"] == 1


def test_goes_from_https_to_http_only_where_http_is_allowed(
    tls_server: MisbehavingServer, server: MisbehavingServer, authority: Authority
) -> None:
    url = tls_server.url(f"/redirect?to={server.url('/ok')}", NAME)
    with fetching(tls_server.port, server.port, ca_file=authority.ca_file) as rig:
        assert rig.fetch(url).body == DOCUMENT
    with fetching(tls_server.port, server.port, ca_file=authority.ca_file, allowed_schemes=("https",)) as rig:
        assert failure(rig, url).reason is Reason.SCHEME_NOT_ALLOWED


PLACES = [
    ("http://169.254.169.254/latest/meta-data", Reason.BLOCKED_ADDRESS),
    ("http://10.0.0.1/", Reason.BLOCKED_ADDRESS),
    ("http://127.0.0.2/", Reason.BLOCKED_ADDRESS),
    ("http://[::ffff:10.0.0.1]/", Reason.BLOCKED_ADDRESS),
    ("http://[fe80::1]/", Reason.BLOCKED_ADDRESS),
    ("http://inside.example/", Reason.BLOCKED_ADDRESS),
    ("http://mixed.example/", Reason.BLOCKED_ADDRESS),
    ("//elsewhere.example/", Reason.HOST_NOT_ALLOWED),
    ("http://10.0.0.1:22/", Reason.PORT_NOT_ALLOWED),
    ("file:///etc/passwd", Reason.SCHEME_NOT_ALLOWED),
    ("ftp://10.0.0.1/", Reason.SCHEME_NOT_ALLOWED),
    ("gopher://10.0.0.1/", Reason.SCHEME_NOT_ALLOWED),
    ("http://user:password@10.0.0.1/", Reason.CREDENTIALS_IN_URL),
    ("http://0xa000001/", Reason.INVALID_URL),
    ("http://167772161/", Reason.INVALID_URL),
    ("http://", Reason.INVALID_URL),
    ("/\\10.0.0.1/", Reason.INVALID_URL),
]


@pytest.mark.parametrize(("place", "reason"), PLACES)
def test_a_redirect_to_a_forbidden_place_is_refused(fresh: MisbehavingServer, place: str, reason: Reason) -> None:
    names = {"inside.example": ["10.0.0.1"], "mixed.example": ["127.0.0.1", "10.0.0.1"]}
    hosts = ("169.254.169.254", "10.0.0.1", "127.0.0.2", "[::ffff:10.0.0.1]", "[fe80::1]", *names)
    with fetching(
        fresh.port, lookup=lambda host, _port: names[host], allowed_hosts=(f"127.0.0.1:{fresh.port}", *hosts)
    ) as rig:
        assert failure(rig, fresh.url(f"/redirect?to={quote(place)}")).reason is reason
    assert fresh.connections == 1


# Retries.


@pytest.mark.parametrize(("code", "ask"), [(429, "retry_after=1"), (503, "retry_date=2")])
def test_waits_as_long_as_it_was_asked_to(fresh: MisbehavingServer, code: int, ask: str) -> None:
    with fetching(fresh.port, fetch_attempts=2) as rig:
        started = time.monotonic()
        assert rig.fetch(fresh.url(f"/flaky?times=1&code={code}&{ask}"), seconds=30).body == DOCUMENT
        assert time.monotonic() - started >= 0.9
        assert len(rig.attempts) == 2


@pytest.mark.parametrize(
    ("ask", "least", "most"),
    [("retry_after=100", 100, 100), ("retry_after=99999", 3600, 3600), ("retry_date=100", 90, 100)],
)
@pytest.mark.parametrize(("code", "reason"), [(429, Reason.RATE_LIMITED), (503, Reason.HTTP_SERVER_ERROR)])
def test_gives_back_what_needs_longer(
    fresh: MisbehavingServer, code: int, reason: Reason, ask: str, least: float, most: float
) -> None:
    with fetching(fresh.port, fetch_attempts=3) as rig:
        caught = failure(rig, fresh.url(f"/status?code={code}&{ask}"))
        assert caught.reason is reason
        assert caught.retry_after is not None
        assert least <= caught.retry_after <= most
        assert len(rig.attempts) == 1
