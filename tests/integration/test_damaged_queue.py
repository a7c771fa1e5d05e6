"""A damaged key in place of one of the queue's: workers name it and set it aside, and missions continue."""

from __future__ import annotations

import pytest
import redis

from mission.model import State
from mission.store.names import QUEUE, TYPES, Key, entry_key
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite
from worker.local.stack import Child

pytestmark = pytest.mark.full

CANARY = "DCDR-canary"
QUEUE_KEYS = [key for key in TYPES if not key.startswith("{") and key != "unacked_mutex"]


def damage(client: redis.Redis, *keys: str) -> None:
    """What one write does."""
    for key in keys:
        client.set(key, CANARY)


def succeeds(client: MissionClient, worker: Child, mission_id: str) -> None:
    wait_for(
        lambda: client.status(mission_id).finished or worker.process.poll() is not None,
        seconds=60,
        what="the mission",
    )
    worker.check()
    assert client.status(mission_id).state is State.SUCCEEDED


def assert_set_aside(client: redis.Redis, worker: Child) -> None:
    """Assert that each damaged key was named and is kept for a while, and that none of its bytes were logged."""
    for key in QUEUE_KEYS:
        wait_for(lambda key=key: client.get(Key.ASIDE + key) == CANARY.encode(), what=f"{key!r} to be set aside")  # type: ignore[misc]  # mypy cannot infer a default's type
        assert client.ttl(Key.ASIDE + key) > 0
    text = worker.log.read_text()
    assert f"'{QUEUE}' was damaged (string) and was put right" in text
    assert CANARY not in text
    assert "does not answer" not in text


def test_a_worker_that_starts_on_a_damaged_queue_mends_it(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    lost = mission_client.enqueue(f"{site.url}/letter.txt").id
    damage(client, *QUEUE_KEYS)
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    succeeds(mission_client, worker, lost)
    assert_set_aside(client, worker)


def test_a_queue_that_is_damaged_under_a_worker_is_mended(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    succeeds(mission_client, worker, mission_client.enqueue(f"{site.url}/letter.txt").id)
    damage(client, *QUEUE_KEYS)
    succeeds(mission_client, worker, mission_client.enqueue(f"{site.url}/letter.txt?2").id)
    assert_set_aside(client, worker)


def test_an_entry_that_is_none_harms_no_other_mission(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    bad = "0f8fad5b-d9cb-469f-a165-70867728950e"
    client.set(entry_key(bad), CANARY)
    for index in (Key.QUEUED, Key.LEASES, Key.DUE, Key.OPEN, Key.EXPIRY, Key.DEAD):
        client.zadd(index, {bad: 1})
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    succeeds(mission_client, worker, mission_client.enqueue(f"{site.url}/letter.txt").id)
    wait_for(lambda: client.zscore(Key.LEASES, bad) is None, what="the damaged one to be dropped")
