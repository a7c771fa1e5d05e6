"""The sample site, asked over real HTTP."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from mission.model import Reason
from tests.conftest import wait_for
from worker.extract import Extractor
from worker.local.sample_site import BUSY, OFF_LIMITS, SampleSite


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


def test_each_document_holds_as_many_secrets_as_its_sample_says(site: SampleSite, connection: HTTPConnection) -> None:
    get(connection, BUSY)
    found = {}
    for sample in site.samples():
        if sample.secrets is not None and not sample.url.endswith("moved.txt"):
            _, text = get(connection, sample.url.removeprefix(site.url))
            found[sample] = len(Extractor().extract(text))
    assert found == {sample: sample.secrets for sample in found}
    assert set(found.values()) == {0, 1, 2, 3}


def test_its_first_page_lists_every_document(site: SampleSite, connection: HTTPConnection) -> None:
    _, text = get(connection, "/")
    assert set(text.splitlines()[1:]) == {
        sample.url.removeprefix(site.url) for sample in site.samples() if sample.url.startswith(site.url)
    }


def test_the_busy_document_asks_its_first_visitor_to_come_back(connection: HTTPConnection) -> None:
    first, _ = get(connection, BUSY)
    second, _ = get(connection, BUSY)
    assert (first.status, first.headers["Retry-After"], second.status) == (503, "1", 200)


def test_the_moved_document_redirects_to_one_that_is_there(connection: HTTPConnection) -> None:
    moved, _ = get(connection, "/moved.txt")
    there, _ = get(connection, moved.headers["Location"])
    assert (moved.status, there.status) == (302, 200)


def test_what_is_not_there_is_a_404(connection: HTTPConnection) -> None:
    assert get(connection, "/missing.txt")[0].status == 404


def test_a_connection_is_kept_for_the_next_request(connection: HTTPConnection) -> None:
    get(connection, "/plain.txt")
    kept = connection.sock
    get(connection, "/map.txt")
    assert connection.sock is kept is not None


def test_one_sample_is_off_the_site_so_that_policy_refuses_it(site: SampleSite) -> None:
    assert [sample.url for sample in site.samples() if sample.reason is Reason.HOST_NOT_ALLOWED] == [OFF_LIMITS]


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
