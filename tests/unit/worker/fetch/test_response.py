"""The strict reading of responses, byte for byte, on a socket pair."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from worker.fetch.response import MAX_FIELDS, MAX_HEAD_BYTES, StrictResponse
from worker.fetch.wire import Limits, StaleConnection, Wire

Respond = Callable[[bytes], StrictResponse]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the server's end of it."""
    near, far = socket.socketpair()
    far.settimeout(5)
    wire = Wire(near, Limits(time.monotonic() + 10, 1, 1))
    wire.requests = 1
    yield wire, far
    wire.close()
    far.close()


@pytest.fixture
def respond(pair: tuple[Wire, socket.socket]) -> Respond:
    """The response from these bytes; the connection ends after them."""

    def make(data: bytes) -> StrictResponse:
        wire, far = pair
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        return begin(wire)

    return make


def begin(wire: Wire) -> StrictResponse:
    response = StrictResponse(wire)  # type: ignore[arg-type]  # a Wire stands in for the socket
    response.begin()
    return response


def read(response: StrictResponse) -> bytes:
    return b"".join(iter(lambda: response.read1(7), b""))


def reason(respond: Respond, data: bytes) -> Reason:
    with pytest.raises(MissionFailed) as caught:
        read(respond(data))
    return caught.value.reason


def test_reads_a_head(respond: Respond) -> None:
    response = respond(b"HTTP/1.1 203 As it were\r\nContent-Length: 2\r\nX-Twice: a\r\nx-twice:\tb \r\n\r\nhi")
    assert (response.status, response.version) == (203, 11)
    assert response.headers.get_all("X-Twice") == ["a", "b"]
    assert read(response) == b"hi"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\n\n", b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 200 \r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
def test_takes_what_the_standard_lets_a_reader_take(respond: Respond, head: bytes) -> None:
    assert read(respond(head + b"body")) == b"body"


def test_reads_over_interim_answers(respond: Respond) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi"
    assert read(respond(data)) == b"hi"


def test_joins_chunks_and_takes_the_coding_off(respond: Respond) -> None:
    response = respond(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0006;x=y\r\n world\r\n00\r\nX-Trailer: x\r\n\r\n"
    )
    assert "Transfer-Encoding" not in response.headers
    assert read(response) == b"hello world"


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(respond: Respond, status: int) -> None:
    assert read(respond(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nhello" % status)) == b""


def test_the_same_length_twice_is_one_length(respond: Respond) -> None:
    assert read(respond(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi")) == b"hi"


def test_the_head_may_fill_its_cap(respond: Respond) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nX-Long: ", b"\r\n\r\n"
    filling = b"x" * (MAX_HEAD_BYTES - len(start + end))
    assert read(respond(start + filling + end + b"hi")) == b"hi"


def test_there_may_be_as_many_fields_as_their_cap(respond: Respond) -> None:
    assert read(respond(OK + b"X: x\r\n" * MAX_FIELDS + b"\r\nhi")) == b"hi"


@pytest.mark.parametrize(
    "data",
    [
        OK + b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000 + OK + b"\r\n",
        OK + b"X: x\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        b"\x16\x03\x01\x02",
        b"<html>hello</html>",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\nmusic",
        b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        OK + b": no name\r\n\r\n",
        OK + b"no colon here\r\n\r\n",
        OK + b"Content-Length : 2\r\n\r\nhi",
        OK + b"X-Folded: a\r\n b\r\n\r\n",
        OK + b"X-Nul: a\0b\r\n\r\n",
        OK + b"X-Cr: a\rContent-Length: 1\r\n\r\nhi",
        OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
        OK + b"Content-Length: -2\r\n\r\nhi",
        OK + b"Content-Length: +2\r\n\r\nhi",
        OK + b"Content-Length: two\r\n\r\nhi",
        OK + b"Content-Length:\r\n\r\nhi",
        OK + b"Content-Length: 2, 1\r\n\r\nhi",
        CHUNKED + b"Content-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        CHUNKED.replace(b"1.1", b"1.0") + b"\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, \r\n\r\n0\r\n\r\n",
        CHUNKED + b"\r\n" + b"0" * 17 + b"\r\n\r\n",
        CHUNKED + b"\r\n+2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"\r\n0x2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"\r\n0_2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"\r\n\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"\r\n2\r\nhi!!\r\n0\r\n\r\n",
        CHUNKED + b"\r\n2\r\nhi\r2\r\n",
        CHUNKED + b"\r\n0\r\nno trailer\r\n\r\n",
        CHUNKED + b"\r\n" + b"1;" + b"x" * 4000 + b"\r\nx\r\n" * 20,
    ],
)
def test_refuses_what_can_be_read_in_two_ways(respond: Respond, data: bytes) -> None:
    assert reason(respond, data) is Reason.MALFORMED_RESPONSE


FRAMED = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX: x\r\n\r\n",
]


@pytest.mark.parametrize("whole", FRAMED)
def test_every_cut_is_a_failed_connection(whole: bytes) -> None:
    for cut in range(len(whole)):
        near, far = socket.socketpair()
        with far:
            far.sendall(whole[:cut])
            far.shutdown(socket.SHUT_WR)
            wire = Wire(near, Limits(time.monotonic() + 10, 1, 1))
            wire.requests = 1
            with pytest.raises(MissionFailed) as caught:
                read(begin(wire))
            wire.close()
        assert caught.value.reason is Reason.CONNECTION_FAILED, whole[:cut]


@pytest.mark.parametrize("whole", FRAMED)
def test_a_connection_read_to_its_end_is_idle(pair: tuple[Wire, socket.socket], whole: bytes) -> None:
    wire, far = pair
    far.sendall(whole)
    response = begin(wire)
    assert not wire.idle or response.length == 0
    read(response)
    assert wire.idle


@pytest.mark.parametrize(
    "whole",
    [
        FRAMED[0] + b"H",
        FRAMED[0].replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"),
        FRAMED[0].replace(b"\r\n\r\n", b"\r\nConnection: x, close\r\n\r\n"),
        FRAMED[0].replace(b"1.1", b"1.0"),
    ],
)
def test_a_connection_with_no_more_to_expect_is_closed(pair: tuple[Wire, socket.socket], whole: bytes) -> None:
    wire, far = pair
    far.sendall(whole)
    response = begin(wire)
    assert read(response) == b"hello world"
    assert not wire.idle
    assert far.recv(1) == b""


def test_a_connection_read_half_is_closed(pair: tuple[Wire, socket.socket]) -> None:
    wire, far = pair
    far.sendall(FRAMED[0])
    response = begin(wire)
    response.read1(3)
    response.close()
    assert not wire.idle


def test_bytes_nobody_asked_for_make_a_connection_unfit(pair: tuple[Wire, socket.socket]) -> None:
    wire, far = pair
    assert wire.idle
    far.sendall(b"x")
    assert not wire.idle


def test_a_kept_connection_that_ends_in_silence_is_stale(pair: tuple[Wire, socket.socket]) -> None:
    wire, far = pair
    wire.requests = 2
    wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
    far.close()
    with pytest.raises(StaleConnection):
        wire.readline(100)


def test_a_kept_connection_that_ends_within_an_answer_is_not_stale(pair: tuple[Wire, socket.socket]) -> None:
    wire, far = pair
    wire.requests = 2
    wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
    far.sendall(b"HTTP")
    far.close()
    with pytest.raises(MissionFailed):
        begin(wire)


def test_each_read_gets_what_remains(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    wire.limits = Limits(time.monotonic() + 0.1, 10, 10)
    with pytest.raises(MissionFailed) as caught:
        wire.readline(100)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


def test_a_request_nobody_reads_ends_in_time(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    wire.limits = Limits(time.monotonic() + 5, 10, 0.1)
    with pytest.raises(MissionFailed) as caught:
        wire.sendall(b"x" * 50_000_000)
    assert caught.value.reason is Reason.READ_TIMEOUT
