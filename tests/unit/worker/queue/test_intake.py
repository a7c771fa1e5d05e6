"""The choke point: which connections it guards, and how it handles an entry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.transport.redis import Transport
from redis.sentinel import SentinelManagedConnection

from mission.store.messages import celery_config
from mission.store.names import Key
from mission.store.tls import VerifiedConnection
from tests.queue_entries import CANARY, arguments, entry, malformed
from worker.observe import metrics
from worker.queue import intake
from worker.queue.entry import rebuild
from worker.queue.intake import GuardedConnection
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")

MALFORMED = malformed()


@pytest.fixture
def channel(settings: WorkerSettings) -> Iterator[Any]:
    """kombu's channel of a worker process."""
    with GuardedConnection(settings.redis_url.get_secret_value()) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        yield connection.channel()


@pytest.mark.parametrize("url", ["redis://host", "rediss://host", "sentinel://a;sentinel://b"])
def test_the_choke_point_stands_in_front_of_every_kind_of_connection_to_whatever_node_it_switches(url: str) -> None:
    app = Celery("test", broker=url, amqp=intake.GuardedAMQP, set_as_current=False, fixups=[])
    connection = app.connection_for_read()
    for _ in range(3):
        assert issubclass(connection.transport.Channel, intake.GuardedChannel)
        assert connection.as_uri().startswith(url.partition(":")[0] + "://")  # Flower reads it, and so do people
        connection.maybe_switch_next()


@pytest.mark.parametrize("url", ["rediss://a.example/0", "rediss+sentinel://a.example,b.example,c.example/main"])
def test_tls_is_verified_on_every_node_that_a_connection_switches_to(url: str) -> None:
    app = Celery("test", amqp=intake.GuardedAMQP, set_as_current=False, fixups=[])
    app.conf.update(celery_config(WorkerSettings.from_env(redis_url=url)))
    connection = app.connection_for_read()
    for _ in range(3):
        channel = connection.transport.Channel
        assert issubclass(channel.connection_class_ssl, VerifiedConnection)
        assert issubclass(channel.connection_class_ssl, SentinelManagedConnection) is ("sentinel" in url)
        assert connection.ssl["ssl_check_hostname"] is True
        connection.maybe_switch_next()


def test_other_connections_of_the_process_are_kombus_own() -> None:
    app = Celery("test", broker="redis://host", set_as_current=False, fixups=[])
    assert type(app.connection_for_read().transport) is Transport


def brpop(channel: Any) -> Any:
    with channel.conn_or_acquire() as guarded:
        return guarded.brpop(["missions"], timeout=1)


def test_a_good_entry_comes_through_rebuilt(channel: object, client: redis.Redis) -> None:
    assert brpop(channel) is None
    client.lpush("missions", entry())
    queue, message = brpop(channel)
    assert queue == b"missions"
    assert CANARY.encode() not in message
    assert not client.exists(Key.QUARANTINE)


def test_of_a_bad_entry_only_hash_and_size_are_kept(
    channel: object, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metrics.SECURITY_EVENTS.labels("malformed_message")
    before = counter._value.get()
    bad = MALFORMED["unknown task"]
    client.lpush("missions", bad)
    assert brpop(channel) is None
    ((_, kept),) = client.xrange(Key.QUARANTINE) or []
    assert kept == {
        b"sha256": hashlib.sha256(bad).hexdigest().encode(),
        b"bytes": str(len(bad)).encode(),
        b"problem": b"unknown task",
    }
    assert counter._value.get() == before + 1
    assert "malformed message: unknown task" in caplog.text
    assert CANARY not in caplog.text


def test_what_is_refused_of_a_task_that_answers_is_told_as_well_and_the_rest_comes_through(
    channel: object, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metrics.SECURITY_EVENTS.labels("malformed_message")
    before = counter._value.get()
    client.lpush("missions", entry("decoder.submit", [42]))
    assert arguments(brpop(channel)[1]) == ([], {})
    assert (client.xlen(Key.QUARANTINE), counter._value.get()) == (1, before + 1)
    assert "malformed message: bad arguments" in caplog.text


def test_a_quarantine_that_cannot_be_written_stops_nothing(
    channel: object, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(Key.QUARANTINE, "a string where the stream should be")
    client.lpush("missions", b"nonsense")
    assert brpop(channel) is None
    assert "quarantine not written: ResponseError" in caplog.text
    client.lpush("missions", entry())
    assert brpop(channel) is not None


def test_the_quarantine_has_a_bound(channel: object, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "QUARANTINE_LENGTH", 10)
    client.lpush("missions", *([b"nonsense"] * 500))
    while client.llen("missions"):
        assert brpop(channel) is None
    assert client.xlen(Key.QUARANTINE) < 250


IN_HAND: dict[str, str | bytes] = {
    "not JSON": CANARY,
    "not UTF-8": b"\xff\xfe",
    "a number": "7",
    "too short": "[{}, 1]",
    "a word": json.dumps([CANARY, "", "missions"]),
    "for an unknown task": json.dumps([json.loads(MALFORMED["unknown task"]), "", "missions"]),
}


@pytest.mark.parametrize("kind", IN_HAND)
def test_what_is_no_message_among_those_in_hand_is_dropped_and_counted(
    kind: str, channel: Any, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metrics.SECURITY_EVENTS.labels("malformed_message")
    before = counter._value.get()
    client.hset("unacked", "tag", IN_HAND[kind])
    client.zadd("unacked_index", {"tag": 1})
    channel.qos.restore_by_tag("tag")
    assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)
    assert counter._value.get() == before + 1
    assert CANARY not in caplog.text


def test_a_message_in_hand_is_put_back_into_the_queue(channel: Any, client: redis.Redis) -> None:
    message = json.loads(rebuild(entry()))
    client.hset("unacked", "tag", json.dumps([message, "", "missions"]))
    client.zadd("unacked_index", {"tag": 1})
    channel.qos.restore_by_tag("tag")
    assert (client.hlen("unacked"), client.llen("missions")) == (0, 1)
    assert brpop(channel) is not None


def test_a_channel_has_one_client_for_as_long_as_its_pool(channel: Any) -> None:
    with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
        assert first is second
    channel._disconnect_pools()
    with channel.conn_or_acquire() as after:
        assert after is not first
        assert after.connection_pool is channel.pool
        assert after.ping()
