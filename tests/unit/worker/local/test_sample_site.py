"""The sample site over real HTTP. The tests of `decoder run` show that its samples end as they should."""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.conftest import wait_for
from tests.processes import started
from worker.local.sample_site import BUSY, SampleSite


@pytest.fixture
def site() -> Iterator[SampleSite]:
    with SampleSite() as running:
        yield running


@pytest.fixture
def connection(site: SampleSite) -> Iterator[HTTPConnection]:
    client = HTTPConnection("127.0.0.1", site.port, timeout=30)
    yield client
    client.close()


def get(connection: HTTPConnection, path: str) -> tuple[HTTPResponse, str]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response, response.read().decode()


def test_its_first_page_lists_every_document(site: SampleSite, connection: HTTPConnection) -> None:
    _, text = get(connection, "/")
    assert set(text.splitlines()[1:]) == {
        sample.url.removeprefix(site.url) for sample in site.samples() if sample.url.startswith(site.url)
    }


def test_the_busy_document_asks_its_first_visitor_to_come_back(connection: HTTPConnection) -> None:
    first, _ = get(connection, BUSY)
    second, _ = get(connection, BUSY)
    assert (first.status, first.headers["Retry-After"], second.status) == (503, "1", 200)


def test_a_connection_is_kept_for_the_next_request(connection: HTTPConnection) -> None:
    get(connection, "/plain.txt")
    kept = connection.sock
    get(connection, "/map.txt")
    assert connection.sock is kept is not None


def test_it_prints_nothing(connection: HTTPConnection, capfd: pytest.CaptureFixture[str]) -> None:
    get(connection, "/letter.txt")
    assert capfd.readouterr() == ("", "")


def test_a_visitor_who_breaks_off_is_no_news(site: SampleSite, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as visitor:
        visitor.sendall(b"GET /plain.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        visitor.recv(1)
        # With a linger of 0 seconds, closing sends a reset.
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(
        lambda: not any("process_request_thread" in thread.name for thread in threading.enumerate()),
        what="the visit's end",
    )
    assert capfd.readouterr() == ("", "")


def test_after_the_end_nobody_listens() -> None:
    with SampleSite() as site:
        port = site.port
    with pytest.raises(ConnectionRefusedError):
        HTTPConnection("127.0.0.1", port, timeout=30).connect()


def test_as_a_program_it_listens_where_it_is_told_and_ends_on_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started([sys.executable, "-m", "worker.local.sample_site", str(port)]) as site:
        wait_for(lambda: answers(port), what="the site")
        site.send_signal(signal.SIGTERM)
        assert site.wait(timeout=30) == 0


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return bool(page.status == 200)
    except URLError:
        return False
