"""For any bytes that a server sends, a fetch ends in a document or in the declared error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.fetching import Fetching, fetching
from tests.servers.misbehaving import MisbehavingServer, compress

CAP = 20_000

_STATUS = st.one_of(
    st.integers(100, 599).map(lambda code: b"HTTP/1.1 %d X" % code),
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 302 Found", b"HTTP/1.1 503", b"HTTP/9", b""]),
    st.binary(max_size=30),
)
_FIELDS = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: 99999999999999999999"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Connection: close", b"Connection: keep-alive"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Encoding: deflate"),
    *(b"Content-Encoding: gzip, gzip", b"Location: /ok", b"Location: ", b"Location: http://[", b"Set-Cookie: a=b"),
    *(b"Retry-After: 5", b"Retry-After: soon", b"Content-Type: text/html; charset=x", b" folded", b":", b""),
]
_NAMES = [b"Location: ", b"Retry-After: ", b"Content-Type: ", b""]
_FIELD = st.one_of(st.sampled_from(_FIELDS), st.tuples(st.sampled_from(_NAMES), st.binary(max_size=40)).map(b"".join))
_CHUNK = st.tuples(
    st.sampled_from([b"5", b"0", b"a", b"-1", b"5;x", b"", b"zz", b"ffffffffffffffff"]), st.binary(max_size=12)
)
_CODING = st.sampled_from(["gzip", "deflate", "raw-deflate", "br", "zstd"])
_BODY = st.one_of(
    st.binary(max_size=200),
    st.lists(_CHUNK, max_size=4).map(lambda chunks: b"".join(size + b"\r\n" + data + b"\r\n" for size, data in chunks)),
    st.tuples(_CODING, st.binary(max_size=100)).map(lambda pair: compress(pair[1], pair[0])),
    st.tuples(_CODING, st.binary(max_size=100), st.integers(0, 60)).map(
        lambda triple: compress(triple[1], triple[0])[: triple[2]]
    ),
    st.just(b"x" * (CAP + 1)),
)
_LIKE_HTTP = st.tuples(_STATUS, st.lists(_FIELD, max_size=5), _BODY).map(
    lambda parts: b"\r\n".join([parts[0], *parts[1], b"", parts[2]])
)
RESPONSES = st.one_of(st.binary(max_size=300), _LIKE_HTTP, st.tuples(_LIKE_HTTP, _LIKE_HTTP).map(b"".join))


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture(scope="module")
def rig(server: MisbehavingServer) -> Iterator[Fetching]:
    with fetching(server.port, max_bytes=CAP, max_redirects=1) as rig:
        yield rig


@settings(max_examples=600, deadline=None)
@given(response=RESPONSES)
@example(b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n")
@example(b"HTTP/1.1 302 Found\r\nLocation: http://[::1%25lo]/\r\n\r\n")
@example(b"HTTP/1.1 503 X\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 -2359\r\n\r\n")
def test_only_the_declared_error(server: MisbehavingServer, rig: Fetching, response: bytes) -> None:
    server.raw = response
    rig.attempts.clear()
    try:
        document = rig.fetch(server.url("/raw"), seconds=10)
    except MissionFailed as failure:
        assert failure.reason is not Reason.DEADLINE_EXCEEDED  # noqa: PT017 (a document is as good an end)
    else:
        assert len(document.body) <= CAP
    assert len(rig.attempts) == 1
