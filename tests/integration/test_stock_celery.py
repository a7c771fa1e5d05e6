"""The queue holds ordinary messages: an unmodified Celery and kombu read them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import cast

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Queue

from mission.model import Ticket
from mission.store.messages import DECODE
from mission.store.names import QUEUE
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.stock_celery import CALLED
from worker.local.children import end_child, start_child
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
URLS = [f"https://docs.example.com/{number}" for number in range(20)]


def enqueued(client: MissionClient) -> list[str]:
    """One by itself, then twenty at once."""
    verdicts = [client.enqueue("https://docs.example.com/alone"), *client.enqueue_many(URLS)]
    return [verdict.id for verdict in verdicts if isinstance(verdict, Ticket)]


def test_a_stock_celery_worker_runs_the_task_with_the_ids(
    mission_client: MissionClient, settings: WorkerSettings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = enqueued(mission_client)
    worker = start_child(
        [sys.executable, "-m", "celery", "-A", "tests.integration.stock_celery", "worker", "--pool", "solo"],
        folder=tmp_path,
        log=tmp_path / "log",
        env=os.environ | {"CELERY_BROKER_URL": settings.redis_url.get_secret_value(), "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_for(lambda: client.llen(CALLED) == 3, seconds=60, what="three calls")
        found = [json.loads(call) for call in cast("list[bytes]", client.lrange(CALLED, 0, -1))]
        assert [given for _, _, given in found] == [ids[:1], ids[1:17], ids[17:]]
        assert len({task_id for task_id, _, _ in found}) == 3
        assert {queue for _, queue, _ in found} == {QUEUE}
        wait_for(lambda: not client.exists(QUEUE, "unacked", "unacked_index"), what="all to be acknowledged")
    finally:
        end_child(worker, grace=10)


def test_a_stock_kombu_consumer_reads_the_message_and_may_put_it_back(
    mission_client: MissionClient, settings: WorkerSettings
) -> None:
    ids = enqueued(mission_client)[:1]
    with Connection(settings.redis_url.get_secret_value()) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        queue = connection.SimpleQueue(Queue(QUEUE))  # type: ignore[no-untyped-call]  # as above
        queue.get(timeout=10).requeue()
        messages = [queue.get(timeout=10) for _ in range(3)]
        (alone,) = (message for message in messages if message.payload[0] == [ids])
        assert alone.headers["task"] == DECODE
        assert alone.payload == [[ids], {}, {}]
        for message in messages:
            message.ack()
        queue.close()
