"""Thousands of missions for a dead host and their effect on others: how many of them come before another's, in one round of the reaper."""

from __future__ import annotations

from typing import cast

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Reason
from mission.store.changes import Admission, Release
from mission.store.ledger import Ledger
from mission.store.names import QUEUE, Key
from tests.claims import claim_these
from tests.queue_entries import arguments
from worker.settings import WorkerSettings
from worker.work.hosts import FAILURES_TO_PAUSE, PAUSE_SECONDS, Hosts
from worker.work.reaper import DUE_COUNT, Reaper

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

DEAD = "d" * 32
MANY, AT_A_TIME = 80_000, 1000


def come_back_at_once(ledger: Ledger, count: int, reason: Reason, host: str = "") -> list[str]:
    """New missions that were tried once and are due again."""
    ids = [new_mission_id() for _ in range(count)]
    ledger.admit([Admission(mission_id, b"sealed url", 3600) for mission_id in ids], "app")
    claims = claim_these(ledger, ids, count, 60).claims
    ledger.release([Release(claim.id, claim.token, reason, 0.0, False, host) for claim in claims], 5)
    return ids


def queued(client: redis.Redis) -> list[str]:
    """The ids in the queue, next first."""
    entries = cast("list[bytes]", client.lrange(QUEUE, 0, -1))
    return [id_ for entry in reversed(entries) for id_ in arguments(entry)[0][0]]


def test_eighty_thousand_missions_for_a_dead_host_are_before_nobody(
    ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    for _ in range(MANY // AT_A_TIME):
        come_back_at_once(ledger, AT_A_TIME, Reason.HOST_PAUSED, DEAD)
    (bystander,) = come_back_at_once(ledger, 1, Reason.HTTP_SERVER_ERROR)
    client.delete(QUEUE)  # the messages that their admission published
    reaper = Reaper(ledger, Hosts(ledger, 8), max_attempts=5, lease_seconds=60)
    reaper.round()
    assert queued(client).index(bystander) <= DUE_COUNT // 2

    for _ in range(FAILURES_TO_PAUSE):
        ledger.host_failed(DEAD, "stranger", FAILURES_TO_PAUSE, PAUSE_SECONDS)
    client.delete(Key.REAPER)
    (later,) = come_back_at_once(ledger, 1, Reason.HTTP_SERVER_ERROR)
    client.delete(QUEUE)
    reaper.round()
    assert queued(client) == [later]
