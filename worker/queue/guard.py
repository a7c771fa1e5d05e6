"""Check, at each connection and before consuming, that the choke point really guards the queue.

The guard recognises messages by a name that kombu uses internally (`BRPOP`). If that name changed, the guard would silently stop
working. So the check sends a poisoned message and a good one through kombu, over its own queue: only the good one may come out.
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
# If the worker is killed during the check, Redis deletes the queue after this time.
_LEFT_SECONDS = 60


class GuardCheck(StartStopStep):  # type: ignore[misc]  # celery has no types
    """A step of Celery's consumer: ends the worker with exit code 2 if the guard does not work."""

    requires = ("celery.worker.consumer:Connection",)

    def start(self, consumer: Any) -> None:
        """Check. If the broker does not answer, Celery takes the error for a lost connection and retries."""
        if delivered(consumer.connection, consumer.app.conf.broker_connection_timeout) != [STATUS]:
            sys.stderr.write(
                f"error: kombu {kombu.__version__} bypasses the decoder's guard; install the release that it was tested with\n"
            )
            raise SystemExit(2)


def delivered(connection: Any, timeout: float) -> list[str]:
    """Send a poisoned message and then a good one; return the tasks of those that a kombu connection delivers.

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
