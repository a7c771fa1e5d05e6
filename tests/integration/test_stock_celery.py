"""What lies in the queue is a message like any other: Celery and kombu as they come read it."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker as start_stock_worker
from kombu.connection import Connection
from kombu.entity import Queue

from mission.model import Ticket
from mission.store.messages import DECODE
from mission.store.names import QUEUE
from producer import MissionClient
from tests.conftest import wait_for
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

URLS = [f"https://docs.example.com/{number}" for number in range(20)]


def enqueued(client: MissionClient) -> list[str]:
    """One by itself, then twenty at once."""
    verdicts = [client.enqueue("https://docs.example.com/alone"), *client.enqueue_many(URLS)]
    return [verdict.id for verdict in verdicts if isinstance(verdict, Ticket)]


def test_a_stock_celery_worker_runs_the_task_with_the_ids(
    mission_client: MissionClient, settings: WorkerSettings, client: redis.Redis
) -> None:
    app = Celery("stock", broker=settings.redis_url.get_secret_value(), set_as_current=False, fixups=[])
    app.conf.update(task_default_queue=QUEUE, worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
    called: SimpleQueue[tuple[str, str, list[str]]] = SimpleQueue()

    @app.task(name=DECODE, bind=True, shared=False)  # type: ignore[untyped-decorator]  # celery has no types
    def decode(self: Any, ids: list[str]) -> None:
        called.put((self.request.id, self.request.delivery_info["routing_key"], ids))

    ids = enqueued(mission_client)
    with start_stock_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        found = [called.get(timeout=30) for _ in range(3)]
    assert [given for _, _, given in found] == [ids[:1], ids[1:17], ids[17:]]
    assert len({task_id for task_id, _, _ in found}) == 3
    assert {queue for _, queue, _ in found} == {QUEUE}
    wait_for(lambda: not client.exists(QUEUE, "unacked", "unacked_index"), what="all to be acknowledged")


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
