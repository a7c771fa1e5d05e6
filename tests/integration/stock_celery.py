"""A stock Celery app with a task of the decoder's name, which records its arguments in Redis."""

from __future__ import annotations

import json
from typing import Any

import redis
from celery import Celery

CALLED = "called"

app = Celery("stock", set_as_current=False)  # CELERY_BROKER_URL names its broker
app.conf.update(task_default_queue="missions", broker_connection_retry_on_startup=True)


@app.task(name="decoder.decode", bind=True, shared=False)  # type: ignore[untyped-decorator]  # celery has no types
def decode(self: Any, ids: list[str]) -> None:
    """Record the task's id, its queue and its argument."""
    with redis.Redis.from_url(self.app.conf.broker_url) as client:
        client.rpush(CALLED, json.dumps([self.request.id, self.request.delivery_info["routing_key"], ids]))
