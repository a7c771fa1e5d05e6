"""A stock Celery app that has a task of the decoder's name, and says in Redis what it was called with."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from celery import Celery

BROKER, CALLED = "STOCK_BROKER", "called"

app = Celery("stock", broker=os.environ[BROKER], set_as_current=False)
app.conf.update(task_default_queue="missions", broker_connection_retry_on_startup=True)


@app.task(name="decoder.decode", bind=True, shared=False)  # type: ignore[untyped-decorator]  # celery has no types
def decode(self: Any, ids: list[str]) -> None:
    """Tell the task's id, its queue and its argument."""
    with redis.Redis.from_url(os.environ[BROKER]) as client:
        client.rpush(CALLED, json.dumps([self.request.id, self.request.delivery_info["routing_key"], ids]))
