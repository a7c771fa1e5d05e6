"""Messages that wake a worker for missions are joined at the choke point while there are free slots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Priority
from mission.store.messages import DECODE, wake_ups
from mission.store.names import QUEUE, QUEUE_OF, Key
from tests.queue_entries import arguments, entry, envelope, malformed
from worker.queue import intake
from worker.queue.entry import MAX_IDS_PER_MESSAGE, MAX_MESSAGE_BYTES
from worker.queue.intake import GuardedConnection
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")

Taken = Callable[[], list[str]]


class Room:
    """The number of free slots, which a test sets."""

    def __init__(self) -> None:
        self.left = 32

    def __call__(self) -> int:
        return self.left


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def taken(settings: WorkerSettings, room: Room) -> Iterator[Taken]:
    """The ids of the next message that a worker gets."""
    options: dict[str, Any] = {"room": room}
    with GuardedConnection(settings.redis_url.get_secret_value(), transport_options=options) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        channel = connection.channel()

        def take() -> list[str]:
            _, message = channel.client.brpop(list(QUEUE_OF.values()), timeout=1)
            (ids,), _ = arguments(message)
            return list(ids)

        yield take


def publish(client: redis.Redis, count: int, per_message: int = 1) -> list[str]:
    """Publish missions, `per_message` in each message; return the ids in that order."""
    ids = [new_mission_id() for _ in range(count)]
    client.lpush(QUEUE, *wake_ups(ids, per_message=per_message))
    return ids


def test_what_waits_becomes_one_message(client: redis.Redis, taken: Taken) -> None:
    ids = publish(client, 5)
    assert taken() == ids
    assert client.llen(QUEUE) == 0


def test_a_worker_takes_no_more_than_it_has_room_for(client: redis.Redis, taken: Taken, room: Room) -> None:
    room.left = 5
    ids = publish(client, 10, per_message=2)
    assert taken() == ids[:4]
    assert client.llen(QUEUE) == 3


@pytest.mark.parametrize("left", [0, 1])
def test_without_room_a_message_comes_alone(client: redis.Redis, taken: Taken, room: Room, left: int) -> None:
    room.left = left
    first, second = publish(client, 2)
    assert (taken(), taken()) == ([first], [second])


def test_sixteen_messages_are_joined_at_most(client: redis.Redis, taken: Taken, room: Room) -> None:
    room.left = 1000
    ids = publish(client, 20)
    assert (taken(), taken()) == (ids[:16], ids[16:])


def test_what_is_joined_is_of_the_same_queue(client: redis.Redis, taken: Taken) -> None:
    urgent = QUEUE_OF[Priority.HIGH]
    ids = [new_mission_id() for _ in range(3)]
    client.lpush(urgent, *wake_ups(ids, urgent, per_message=1))
    others = publish(client, 2)
    assert taken() == ids
    assert taken() == others
    assert client.llen(urgent) == client.llen(QUEUE) == 0


def test_a_message_of_another_kind_ends_it_and_keeps_its_place(client: redis.Redis, taken: Taken) -> None:
    ids = publish(client, 2)
    client.lpush(QUEUE, other := entry("decoder.submit", ["https://docs.example/"]))
    publish(client, 1)
    assert taken() == ids
    assert client.lindex(QUEUE, -1) == other


def test_one_that_only_looks_like_a_wake_up_is_put_back(client: redis.Redis, taken: Taken) -> None:
    disguised = envelope("decoder.submit", ["https://docs.example/"])
    disguised["note"] = {"task": DECODE}
    client.lpush(QUEUE, *wake_ups([new_mission_id()]), other := json.dumps(disguised, separators=(",", ":")).encode())
    assert len(taken()) == 1
    assert client.lrange(QUEUE, 0, -1) == [other]


def test_one_with_very_many_missions_is_put_back(client: redis.Redis, taken: Taken, room: Room) -> None:
    room.left = 1000
    first = publish(client, 1)
    many = publish(client, MAX_IDS_PER_MESSAGE, per_message=MAX_IDS_PER_MESSAGE)
    assert (taken(), taken()) == (first, many)


def test_one_too_large_for_a_message_is_not_taken_beside_another(client: redis.Redis, taken: Taken) -> None:
    """Formerly fifteen messages of the largest size that Redis accepts were in a worker's memory at once."""
    first = publish(client, 1)
    (large,) = (message + b" " * MAX_MESSAGE_BYTES for message in wake_ups([new_mission_id()]))
    client.lpush(QUEUE, large)
    assert taken() == first
    assert client.llen(QUEUE) == 1


def test_a_malformed_one_among_them_goes_into_quarantine(client: redis.Redis, taken: Taken) -> None:
    (first,) = publish(client, 1)
    bad = json.loads(malformed()["unknown task"]) | {"note": {"task": DECODE}}
    client.lpush(QUEUE, json.dumps(bad, separators=(",", ":")))
    (last,) = publish(client, 1)
    assert taken() == [first, last]
    assert client.xlen(Key.QUARANTINE) == 1


def test_in_a_stream_a_message_waits_a_moment_for_the_next_ones(
    client: redis.Redis, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_STREAM_SECONDS", 60.0)
    late: list[str] = []
    monkeypatch.setattr("worker.queue.intake.time.sleep", lambda _: late.extend(publish(client, 1)))
    first = publish(client, 1)
    assert taken() == first, "alone, it does not wait"
    second = publish(client, 1)
    found = taken()
    assert len(late) == 1, "it waits once"
    assert found == second + late


def test_a_stream_goes_on_as_long_as_there_is_something_to_join(
    client: redis.Redis, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_STREAM_SECONDS", 0.0)
    waits: list[float] = []
    monkeypatch.setattr("worker.queue.intake.time.sleep", waits.append)
    publish(client, 2)
    taken()
    for _ in range(2):
        publish(client, 1)
        taken()
    assert len(waits) == 1, "after two were joined, and no more after one that came alone"
