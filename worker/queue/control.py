"""Celery's remote control without messages: workers do not listen to it. It answers Flower's requests from their heartbeats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery.app.control import Control

_NOT_TOLD = "its tasks and its configuration, because it accepts no remote control"


class HeartbeatControl(Control):  # type: ignore[misc]  # celery has no types
    """Sends workers neither requests nor commands.

    Flower shows a worker's page only after an answer to `stats`; the heartbeats, one every two seconds, contain what it needs.
    """

    def broadcast(
        self,
        command: str,
        *_: object,
        destination: Sequence[str] | None = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        **__: object,
    ) -> list[dict[str, Any]] | None:
        """Return the replies of workers, by name, as far as heartbeats contain them; None to a command without a reply.

        Args:
            command: the name of the request.
            destination: the workers to ask; none by default.
            reply: whether the caller expects a reply.
            timeout: seconds to wait for a heartbeat of each.
        """
        if not reply:
            return None
        names = set(destination or ())
        if command == "active_queues":
            queues = [queue.as_dict(recurse=True) for queue in self.app.amqp.queues.values()]
            return [dict.fromkeys(names, queues)]
        if command == "stats" and names:
            return [self._heard(names, timeout or 1.0)]
        return [{}]  # an empty reply, not a failure

    def _heard(self, names: set[str], seconds: float) -> dict[str, Any]:
        heard: dict[str, Any] = {}

        def beat(event: Any, _message: object) -> None:
            if isinstance(event, dict) and event["type"] == "worker-heartbeat" and event["hostname"] in names:
                heard[event["hostname"]] = _stats(event)

        until = time.monotonic() + seconds
        with self.app.connection_for_read() as connection:
            events = self.app.events.Receiver(connection.channel())
            with (
                connection.Consumer(events.queue, callbacks=[beat], accept=events.accept, no_ack=True),
                suppress(TimeoutError),
            ):
                while len(heard) < len(names) and (left := until - time.monotonic()) > 0:
                    connection.drain_events(timeout=left)
        return heard


def _stats(beat: dict[str, Any]) -> dict[str, Any]:
    """A heartbeat as the answer to `stats`: https://docs.celeryq.dev/en/stable/userguide/workers.html#statistics."""
    return {
        "pid": beat["pid"],
        "pool": {
            "messages in flight": beat["active"],
            "messages done": beat["processed"],
            "load average": beat["loadavg"],
            "not reported": _NOT_TOLD,
        },
        "broker": {},
        "total": {},
    }
