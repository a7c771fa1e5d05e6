"""A producer may name any submitter and any priority: the harm to an honest submitter is bounded, and nobody starves.

Against a real server, with a producer's login to enqueue and a worker's to claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Priority
from mission.store import library
from mission.store.changes import Admission
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import Key
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

HONEST = "zz-honest"  # among submitters that arrive together, names with earlier initials come first


@pytest.fixture
def stolen(client: redis.Redis, redis_server: EmbeddedRedis) -> Iterator[Ledger]:
    """The ledger with a producer's login."""
    library.load(client)
    settings = WorkerSettings.from_env(redis_url=redis_server.login_url("producer"))
    with connect(settings) as producer:
        yield Ledger(producer, settings)


@pytest.fixture
def worker(client: redis.Redis, redis_server: EmbeddedRedis) -> Iterator[Ledger]:
    """The ledger with a worker's login."""
    settings = WorkerSettings.from_env(redis_url=redis_server.login_url("worker"))
    with connect(settings) as login:
        yield Ledger(login, settings)


def admit(ledger: Ledger, submitter: str, missions: int = 1, priority: Priority = Priority.NORMAL) -> list[str]:
    admissions = [Admission(new_mission_id(), b"u", 1000) for _ in range(missions)]
    return [answer.id for answer in ledger.admit(admissions, submitter, priority=priority)]


def test_who_names_submitters_without_end_holds_an_honest_one_up_for_some_times_his_age(
    stolen: Ledger, worker: Ledger
) -> None:
    """300 invented submitters wait at each moment: with turns only, 30 missions would take 9,000 claims; with age only, 330."""
    names = (f"invented-{number}" for number in count())
    for _ in range(300):
        admit(stolen, next(names))
    honest, claims = set(admit(stolen, HONEST, 30)), 0
    while honest:
        honest -= {claim.id for claim in worker.claim(1, 60).claims}
        admit(stolen, next(names))
        claims += 1
    assert claims < 8 * 330


def test_who_sends_everything_as_urgent_leaves_the_others_their_share(stolen: Ledger, worker: Ledger) -> None:
    for priority in (Priority.NORMAL, Priority.LOW):
        admit(stolen, HONEST, 20, priority)
    urgent = count()
    left = {Priority.NORMAL: 0, Priority.LOW: 0}
    for _ in range(20):
        for _ in range(13):
            admit(stolen, f"invented-{next(urgent)}", 1, Priority.HIGH)
        for claim in worker.claim(13, 60).claims:
            if claim.submitter == HONEST:
                left[Priority(claim.priority)] += 1
        if left[Priority.NORMAL] < 20:
            assert left[Priority.LOW] <= left[Priority.NORMAL]
    assert left[Priority.NORMAL] == 20
    assert left[Priority.LOW] >= 15


def test_names_of_submitters_leave_nothing_in_redis_but_their_missions(
    stolen: Ledger, worker: Ledger, client: redis.Redis
) -> None:
    for number in range(200):
        admit(stolen, f"invented-{number}", 1, list(Priority)[number % 3])
    while worker.claim(50, 60).claims:
        pass
    client.delete(Key.REAPER)
    worker.reap(5, 2)
    assert [key for pattern in (Key.LINE, Key.RING) for key in client.scan_iter(pattern + "*")] == []
    assert set(client.hkeys(Key.TURNS)) <= {b"turn", b"at", b"high", b"normal", b"low"}


def test_a_producer_reads_and_moves_nobodys_line(stolen: Ledger, client: redis.Redis) -> None:
    admit(stolen, HONEST, 3)
    line, ring = f"{Key.LINE}normal:{HONEST}", Key.RING + "normal"
    held: Any = stolen.client
    for call in (
        lambda: held.lrange(line, 0, -1),
        lambda: held.lpop(line),
        lambda: held.lpush(line, "x"),
        lambda: held.llen(line),
        lambda: held.zrange(ring, 0, -1),
        lambda: held.zrem(ring, HONEST),
        lambda: held.zcard(ring),
        lambda: held.delete(line, ring),
        lambda: held.hset(Key.TURNS, "turn", 1),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            call()  # type: ignore[no-untyped-call]
    assert client.llen(line) == 3
