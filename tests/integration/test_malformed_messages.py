"""The worker survives anything in its queue, and good missions are unharmed."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections.abc import Sequence
from itertools import count
from typing import cast

import pytest
import redis

from mission.model import State
from mission.store.names import Key
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from tests.queue_entries import CANARY, entry, malformed, odd, refused
from worker.local.sample_site import SampleSite
from worker.local.stack import Child

pytestmark = pytest.mark.full

# The largest entry that one message can bring; Redis itself stops at 512 MB.
HUGE = b'{"body": "' + CANARY.encode() + b"A" * 50_000_000 + b'"}'


def refused_by(worker: Child) -> float:
    """How many malformed messages the worker counted."""
    port = re.search(r'"server.port": ?(\d+)', worker.log.read_text())
    assert port
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert CANARY not in text
    found = re.search(r'^decoder_security_events_total\{event="malformed_message"\} (\S+)$', text, re.MULTILINE)
    assert found
    return float(found[1])


def quarantined(client: redis.Redis) -> list[tuple[str, int]]:
    """Hash and size of what the quarantine holds."""
    kept: Sequence[tuple[bytes, dict[bytes, bytes]]] = client.xrange(Key.QUARANTINE)  # type: ignore[assignment]  # redis-py's type is that of all protocols
    return sorted((fields[b"sha256"].decode(), int(fields[b"bytes"])) for _, fields in kept)


def interleave(
    entries: Sequence[bytes], mission_client: MissionClient, client: redis.Redis, site: SampleSite
) -> list[str]:
    """Put a good mission before each entry and one at the end; return the missions' ids."""
    number = count()
    ids = []
    for bad in entries:
        ids.append(mission_client.enqueue(f"{site.url}/letter.txt?{next(number)}").id)
        client.lpush("missions", bad)
    return [*ids, mission_client.enqueue(f"{site.url}/letter.txt?{next(number)}").id]


def assert_unharmed(ids: Sequence[str], mission_client: MissionClient, worker: Child) -> None:
    wait_for(
        lambda: mission_client.stats().succeeded == len(ids) or worker.process.poll() is not None,
        seconds=60,
        what="the good missions",
    )
    worker.check()
    assert {mission_client.status(mission_id).state for mission_id in ids} == {State.SUCCEEDED}


def test_malformed_messages_are_counted_and_quarantined_and_the_good_ones_go_on(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    entries = list(malformed().values())
    assert len({*entries}) == len(entries) >= 32
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", host_concurrency="16")
    ids = interleave(entries, mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    wait_for(lambda: refused_by(worker) >= len(entries), what="the last malformed message")
    assert refused_by(worker) == len(entries)
    assert quarantined(client) == sorted((hashlib.sha256(bad).hexdigest(), len(bad)) for bad in entries)
    assert worker.log.read_text().count('"message": "malformed message: ') == len(entries)
    assert CANARY not in worker.log.read_text()
    assert CANARY.encode() not in client.dump(Key.QUARANTINE)  # type: ignore[operator]  # the key is there


def test_what_a_celery_client_asks_wrongly_is_answered_counted_and_quarantined_and_the_good_ones_go_on(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    entries = list(refused().values())
    assert len({*entries}) == len(entries) >= 16
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", host_concurrency="16", log_level="debug")
    ids = interleave(entries, mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    for bad in entries:
        asked = json.loads(bad)["headers"]
        result = f"celery-task-meta-{asked['id']}"
        wait_for(lambda: client.exists(result), what=f"the answer to {asked['task']}")  # noqa: B023 (called here)
        answer = json.loads(cast("bytes", client.get(result)))
        assert answer["status"] == "FAILURE"
        assert f"malformed_message: {asked['task']} requires " in answer["result"]["exc_message"][0]
        assert CANARY not in json.dumps(answer)
    wait_for(lambda: client.hlen("unacked") == 0, what="the end of the tasks")
    assert refused_by(worker) == len(entries)
    assert quarantined(client) == sorted((hashlib.sha256(bad).hexdigest(), len(bad)) for bad in entries)
    assert worker.log.read_text().count('"message": "malformed message: ') == len(entries)
    assert CANARY not in worker.log.read_text()


def test_odd_messages_harm_nobody(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", host_concurrency="16")
    ids = interleave(list(odd().values()), mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    wait_for(lambda: client.llen("missions") == 0 and client.hlen("unacked") == 0, what="the odd messages")
    assert refused_by(worker) == 0
    assert CANARY not in worker.log.read_text()


def test_a_message_of_fifty_megabytes_is_one_malformed_message(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    ids = interleave([HUGE], mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    wait_for(lambda: refused_by(worker) == 1, what="the huge message")
    assert quarantined(client) == [(hashlib.sha256(HUGE).hexdigest(), len(HUGE))]


def test_what_is_no_message_among_those_in_hand_ends_no_worker(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    for tag, bad in enumerate((CANARY, "[]", json.dumps([CANARY, "", "missions"]))):
        client.hset("unacked", str(tag), bad)
        client.zadd("unacked_index", {str(tag): 1})
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    wait_for(lambda: client.hlen("unacked") == 0 or worker.process.poll() is not None, what="the bad ones to go")
    ids = interleave([], mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    wait_for(lambda: refused_by(worker) == 3, what="each to be counted")
    assert CANARY not in worker.log.read_text()


def test_a_queue_that_is_no_list_is_set_aside(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    client.set("missions", CANARY)
    worker.wait_until("was damaged")
    assert_unharmed(interleave([], mission_client, client, site), mission_client, worker)


@pytest.mark.parametrize(
    ("task", "argument"),
    [
        ("decoder.submit", f"https://user:{CANARY}@docs.example/"),
        ("decoder.submit", f"https://docs.example/\ud800{CANARY}"),
        ("decoder.status", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    ],
    ids=["userinfo", "surrogate", "unknown"],
)
def test_what_is_refused_in_a_task_is_that_tasks_failure_alone(
    task: str,
    argument: str,
    mission_client: MissionClient,
    start_worker: StartWorker,
    site: SampleSite,
    client: redis.Redis,
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    ids = interleave([entry(task, [argument])], mission_client, client, site)
    assert_unharmed(ids, mission_client, worker)
    wait_for(lambda: client.hlen("unacked") == 0, what="the end of the task")
    assert CANARY not in worker.log.read_text()
