"""Connections to Redis: time limits, TLS, Sentinel, and the errors for outages."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool

from mission.errors import LedgerUnavailable
from mission.settings import Settings
from mission.store.connection import MAX_CONNECTIONS, connect, outages, parse_sentinel
from mission.store.tls import VerifiedConnection
from worker.settings import WorkerSettings


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_client_talks_to_the_server_of_its_url(settings: WorkerSettings) -> None:
    with connect(settings) as client:
        assert client.ping()


def test_a_busy_worker_does_not_run_out_of_connections(settings: WorkerSettings) -> None:
    with connect(settings) as client:
        assert client.connection_pool.max_connections == MAX_CONNECTIONS > 1000


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:{}/0", "Timeout"),
        ("sentinel://127.0.0.1:{},127.0.0.1:1/main", "the Sentinels know no master"),
    ],
)
def test_an_answer_that_does_not_come_is_an_outage_in_time(silent_port: int, url: str, said: str) -> None:
    settings = Settings.from_env(redis_url=url.format(silent_port), redis_timeout="300ms")
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable, match=f"^store_unavailable: {said}"), outages(), connect(settings) as client:
        client.ping()
    assert time.monotonic() - started < 10


def test_a_connection_that_died_is_opened_anew(settings: WorkerSettings) -> None:
    with connect(settings) as client, connect(settings) as other:
        client.ping()
        other.client_kill_filter(_id=None, _type="normal", skipme=True)
        assert client.ping()


def test_behind_sentinels_the_master_is_asked_for() -> None:
    settings = Settings.from_env(redis_url="sentinel://user:pw@a.example:1,b.example/main")
    with connect(settings) as client:
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        assert (pool.service_name, pool.is_master) == ("main", True)
        assert pool.connection_kwargs["username"] == "user"


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("sentinel://a.example/main", ([("a.example", 26379)], "main", {})),
        (
            "rediss+sentinel://a.example:1,[::1]:2,[::1]/main",
            ([("a.example", 1), ("::1", 2), ("::1", 26379)], "main", {}),
        ),
        ("sentinel://a.example:1,b.example:2/main", ([("a.example", 1), ("b.example", 2)], "main", {})),
        ("sentinel://:p%40ss@a.example/main", ([("a.example", 26379)], "main", {"password": "p@ss"})),
        (
            "sentinel://u%3Aser:pw@a.example/main",
            ([("a.example", 26379)], "main", {"username": "u:ser", "password": "pw"}),
        ),
    ],
)
def test_a_sentinel_url_is_taken_apart(url: str, parsed: object) -> None:
    assert parse_sentinel(url) == parsed


def test_a_tls_client_verifies() -> None:
    with connect(Settings.from_env(redis_url="rediss://127.0.0.1:1/0")) as client:
        found = client.connection_pool.connection_kwargs
    assert (found["ssl_cert_reqs"], found["ssl_check_hostname"]) == ("required", True)


@pytest.mark.parametrize("scheme", ["sentinel", "rediss+sentinel"])
def test_the_master_and_each_sentinel_are_asked_by_tls_or_none_of_them(scheme: str) -> None:
    tls = scheme.startswith("rediss")
    settings = Settings.from_env(redis_url=f"{scheme}://a.example,b.example/main")
    with connect(settings) as client:
        pool: Any = client.connection_pool
        nodes = [node.connection_pool for node in pool.sentinel_manager.sentinels]
    assert issubclass(pool.connection_class, VerifiedConnection) is tls
    assert [issubclass(node.connection_class, VerifiedConnection) for node in nodes] == [tls, tls]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            redis.ResponseError("Command # 1 (HMGET secret) of pipeline caused error: WRONGTYPE Operation."),
            "store_unavailable: WRONGTYPE Operation",
        ),
        (redis.ConnectionError("Connection refused."), "store_unavailable: Connection refused: check that Redis is up"),
        (redis.TimeoutError(), "store_unavailable: TimeoutError: check that Redis is up"),
        (redis.ResponseError("OOM command not allowed\nand more"), "store_unavailable: OOM command not allowed"),
        (redis.ResponseError("x" * 500), "store_unavailable: " + "x" * 200),
        (MasterNotFoundError("<Redis(password=sesame)>"), "store_unavailable: the Sentinels know no master"),
    ],
)
def test_what_redis_raises_is_one_sentence(error: redis.RedisError, said: str) -> None:
    with pytest.raises(LedgerUnavailable) as outage, outages():
        raise error
    assert str(outage.value).startswith(said)
    assert len(str(outage.value)) < 300
    assert "sesame" not in str(outage.value)
    assert outage.value.__suppress_context__


def test_what_is_no_outage_passes() -> None:
    with pytest.raises(ZeroDivisionError), outages():
        raise ZeroDivisionError
