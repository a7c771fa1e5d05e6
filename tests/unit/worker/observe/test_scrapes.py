"""The metrics server, with clients that only hold connections open."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from mission.errors import SettingsError
from tests.conftest import unavailable, wait_for
from worker.observe import scrapes
from worker.observe.scrapes import MAX_CONNECTIONS, serve

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: worker\r\n\r\n"


@pytest.fixture
def server() -> Iterator[scrapes._Server]:
    server, _ = serve(0, "127.0.0.1")
    assert isinstance(server, scrapes._Server)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def port(server: scrapes._Server) -> int:
    return server.server_port


def connect(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))


def scrape(port: int, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def ended(sock: socket.socket) -> bool:
    """Wait for the server to end the connection; return whether it did."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.full
@pytest.mark.parametrize("said", [b"", REQUEST[:-2]], ids=["nothing", "half a request"])
def test_who_holds_connections_open_neither_takes_threads_nor_keeps_scrapers_out(port: int, said: bytes) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(900):
            connect(stack, port).sendall(said)
        for _ in range(3):
            assert "decoder_missions_total" in scrape(port)
            assert threading.active_count() - before <= MAX_CONNECTIONS
    with suppress(FileNotFoundError):
        address = f"http://127.0.0.1:{port}/metrics"
        told = subprocess.run(["curl", "-sS", "-m", "30", address], capture_output=True, text=True, check=True).stdout
        assert "decoder_missions_total" in told
        return
    unavailable("no curl here")


def test_many_scrapers_at_once_are_all_served_also_where_a_thread_ends_late(
    server: scrapes._Server, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = scrapes._Server.shutdown_request

    def end_late(server: scrapes._Server, request: socket.socket) -> None:
        end(server, request)
        time.sleep(0.05)

    monkeypatch.setattr(scrapes._Server, "shutdown_request", end_late)
    with ThreadPoolExecutor(MAX_CONNECTIONS) as scrapers:
        assert all("decoder_missions_total" in text for text in scrapers.map(scrape, [port] * 40))
    wait_for(lambda: not server.asked, what="nothing to be kept of them")


def test_who_sends_a_byte_now_and_then_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "MAX_SECONDS", 0.5)
    with ExitStack() as stack:
        slow = connect(stack, port)
        slow.setblocking(False)

        def cut() -> bool:
            try:
                slow.send(b"G")
                return slow.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        wait_for(cut, what="the end of the connection")


def test_who_reads_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(scrapes._Handler, "wbufsize", 0, raising=False)
    before = threading.active_count()
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        silent.connect(("127.0.0.1", port))
        silent.sendall(REQUEST)
        wait_for(lambda: threading.active_count() == before, what="the end of its thread")


def test_the_oldest_connection_gives_way(port: int) -> None:
    with ExitStack() as stack:
        oldest, *others = [connect(stack, port) for _ in range(MAX_CONNECTIONS)]
        newest = connect(stack, port)
        assert ended(oldest)
        for sock in (*others, newest):
            sock.sendall(REQUEST)
            assert sock.recv(15) == b"HTTP/1.0 200 OK"


def test_a_scrape_that_fails_is_told_without_what_it_was_about(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("sesame")

    monkeypatch.setattr(scrapes._Handler, "handle", fail)
    with ExitStack() as stack:
        assert ended(connect(stack, port))
        wait_for(lambda: caplog.messages == ["a scrape failed: an unexpected ZeroDivisionError"])


def test_it_listens_on_ipv6_where_it_is_told_to() -> None:
    server, port = serve(0, "::1")
    with server:
        assert "decoder_missions_total" in scrape(port, "[::1]")
        server.shutdown()


def test_a_port_in_use_is_refused_in_one_line_that_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^DECODER_METRICS_PORT: got {port}; .*in use$"):
            serve(port, "127.0.0.1")


def test_a_host_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^DECODER_METRICS_PORT: .*DECODER_METRICS_HOST"):
        serve(0, "192.0.2.1")
