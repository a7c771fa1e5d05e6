"""Each time a worker has connected, before it consumes: is the choke point really in front of the queue?

It knows what comes off the queue by a name that kombu uses within itself (`BRPOP`). Were that to change, it would be open without
a word. So a poisoned message and a good one go through a queue of the check's own, by kombu's own way: only the good one may come out.
"""

from __future__ import annotations

import sys
from typing import Any

import kombu
from celery.bootsteps import StartStopStep
from kombu.entity import Queue

from mission.ids import new_mission_id
from mission.store.messages import STATUS, compose
from mission.store.names import CHECK_QUEUE

_POISON = "decoder.poison"
# When the worker is killed half-way, Redis deletes the queue after so long.
_LEFT_SECONDS = 60


class GuardCheck(StartStopStep):  # type: ignore[misc]  # celery has no types
    """A step of Celery's consumer: ends the worker with exit code 2 when the guard is open."""

    requires = ("celery.worker.consumer:Connection",)

    def start(self, consumer: Any) -> None:
        """Check. If the broker does not answer, Celery takes the error for a lost connection and retries."""
        if delivered(consumer.connection, consumer.app.conf.broker_connection_timeout) != [STATUS]:
            sys.stderr.write(
                f"error: kombu {kombu.__version__} bypasses the decoder's guard; install the release that it was tested with\n"
            )
            raise SystemExit(2)


def delivered(connection: Any, timeout: float) -> list[str]:
    """The tasks of the messages that a kombu connection delivers when a poisoned one and then a good one are sent.

    Raises:
        OSError, redis.RedisError: the broker fails, or no message comes for `timeout` seconds.
    """
    queue = Queue(CHECK_QUEUE + new_mission_id(), no_ack=True, no_declare=True)  # type: ignore[no-untyped-call]  # kombu has few types
    messages = [compose(task, new_mission_id(), [new_mission_id()], {}) for task in (_POISON, STATUS)]
    with connection.default_channel.conn_or_acquire() as client, client.pipeline() as pipe:
        pipe.lpush(queue.name, *messages).expire(queue.name, _LEFT_SECONDS).execute()
    tasks: list[str] = []
    with connection.Consumer(
        queue, auto_declare=False, on_message=lambda message: tasks.append(message.headers["task"])
    ):
        while STATUS not in tasks:
            connection.drain_events(timeout=timeout)
    return tasks
