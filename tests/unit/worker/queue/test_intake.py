"""The choke point: what is let through, how it is written anew, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.redis import Transport
from redis.sentinel import SentinelManagedConnection

from mission.store.messages import DECODE, SCHEMA_HEADER, celery_config
from mission.store.names import Key
from mission.store.scripts import WRITES
from mission.store.tls import VerifiedConnection
from tests.queue_entries import CANARY, arguments, encoded, entry, envelope, malformed, odd
from worker.observe import metrics
from worker.queue import intake
from worker.queue.intake import (
    MAX_IDS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    GuardedConnection,
    MalformedMessage,
    rebuild,
)
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")

MALFORMED = malformed()
ODD = odd()


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_entry_is_refused_and_nothing_of_it_repeated(kind: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        rebuild(MALFORMED[kind])
    assert CANARY not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_where_it_does_not_matter_is_left_behind(kind: str) -> None:
    original = json.loads(ODD[kind])
    rebuilt = rebuild(ODD[kind])
    ids = json.loads(base64.b64decode(original["body"]))[0]
    assert arguments(rebuilt) == (ids, {})
    assert CANARY.encode() not in rebuilt
    message = json.loads(rebuilt)
    assert message["headers"] == {"lang": "py", "task": DECODE, "id": original["headers"]["id"], SCHEMA_HEADER: WRITES}


def test_the_largest_message_of_ids_is_let_through() -> None:
    ids = [str(uuid.uuid4()) for _ in range(MAX_IDS_PER_MESSAGE)]
    assert arguments(rebuild(entry(args=[ids]))) == ([ids], {})


def test_an_entry_at_the_limit_is_read_and_one_beyond_it_is_not() -> None:
    padding = MAX_MESSAGE_BYTES - len(entry())
    assert rebuild(entry() + b" " * padding)
    with pytest.raises(MalformedMessage, match="too large"):
        rebuild(entry() + b" " * (padding + 1))


def test_a_body_that_is_not_encoded_is_read_as_it_is() -> None:
    message = envelope()
    message["properties"].pop("body_encoding")
    message["body"] = json.dumps([[["0f8fad5b-d9cb-469f-a165-70867728950e"]], {}, {}])
    assert arguments(rebuild(json.dumps(message).encode())) == ([["0f8fad5b-d9cb-469f-a165-70867728950e"]], {})


def test_a_body_without_the_embedded_options_is_read() -> None:
    message = envelope() | {"body": encoded([[["0f8fad5b-d9cb-469f-a165-70867728950e"]], {}])}
    assert arguments(rebuild(json.dumps(message).encode()))[0] == [["0f8fad5b-d9cb-469f-a165-70867728950e"]]


@pytest.mark.parametrize(
    ("args", "kwargs", "options"),
    [
        (["https://docs.example/a"], {}, {"url": "https://docs.example/a"}),
        ([], {"url": "https://docs.example/a"}, {"url": "https://docs.example/a"}),
        (["u"], {"submitter": "team-a", "expires": 60}, {"url": "u", "submitter": "team-a", "expires": 60}),
        (["u"], {"expires": None}, {"url": "u", "expires": None}),
        (["u"], {"expires": 0.5}, {"url": "u", "expires": 0.5}),
    ],
)
def test_a_submission_keeps_its_url_and_options(
    args: list[str], kwargs: dict[str, object], options: dict[str, object]
) -> None:
    assert arguments(rebuild(entry("decoder.submit", args, kwargs))) == ([], options)


def test_a_question_for_a_status_keeps_its_id() -> None:
    mission_id = str(uuid.uuid4())
    rebuilt = rebuild(entry("decoder.status", [mission_id]))
    assert arguments(rebuilt) == ([mission_id], {})


def test_a_rebuilt_message_is_rebuilt_to_the_same() -> None:
    first = json.loads(rebuild(entry()))
    second = json.loads(rebuild(json.dumps(first).encode()))
    first["properties"].pop("delivery_tag")
    second["properties"].pop("delivery_tag")
    assert second == first


def test_two_entries_with_one_delivery_tag_get_a_tag_each() -> None:
    same = entry()
    tags = {json.loads(rebuild(same))["properties"]["delivery_tag"] for _ in range(2)}
    assert len(tags) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
PLACES = st.sampled_from(
    ["body", "content-type", "headers", "properties", "headers/task", "headers/id", "properties/body_encoding", "args"]
)


@given(st.binary(max_size=300))
def test_any_bytes_are_let_through_or_refused(data: bytes) -> None:
    try:
        rebuild(data)
    except MalformedMessage:
        return
    pytest.fail("random bytes are no message")


@given(PLACES, json_values)
def test_any_value_in_any_place_is_let_through_or_refused(place: str, value: object) -> None:
    message = envelope()
    outer, _, inner = place.partition("/")
    if place == "args":
        message["body"] = encoded([value, {}, {}])
    elif inner:
        message[outer][inner] = value
    else:
        message[outer] = value
    try:
        rebuilt = rebuild(json.dumps(message).encode())
    except MalformedMessage:
        return
    assert json.loads(rebuilt)["headers"]["id"] == message["headers"]["id"]


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
