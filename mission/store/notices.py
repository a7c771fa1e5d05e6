"""Word of a mission's end, to who waits for it: the ledger's functions publish it (https://redis.io/docs/latest/develop/pubsub/)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from mission.store.names import ENDED

_PAUSE_SECONDS = 0.5
# So many connections are kept for the next who wait, however many waited at once.
MOST_IDLE = 16


class EndNotices:
    """Hears of missions' ends. Connections are kept for the next who waits: to open one takes longer than to enqueue. Thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: list[Any] = []
        self._process = os.getpid()

    @contextmanager
    def of(self, mission_id: str) -> Iterator[EndNotice]:
        """Word of one mission's end."""
        if self._process != os.getpid():  # those are the parent's
            self._idle, self._process = [], os.getpid()
        try:
            pubsub = self._idle.pop()
        except IndexError:
            pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        notice = EndNotice(pubsub, mission_id)
        try:
            yield notice
            pubsub.unsubscribe(ENDED + mission_id)
        except BaseException as error:
            pubsub.close()
            if not isinstance(error, redis.RedisError):
                raise
        else:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(pubsub)
            else:
                pubsub.close()


class EndNotice:
    """Hears of one mission's end. It may be missed, while Redis or the connection is away: who waits looks at the ledger, too."""

    def __init__(self, pubsub: Any, mission_id: str) -> None:
        self._pubsub = pubsub
        self._mission_id = mission_id
        self._channel = ENDED + mission_id
        self._subscribed = False

    def wait(self, seconds: float) -> list[str]:
        """The mission, as soon as there may be news of it, and after so many seconds. The first time that is once it listens."""
        until = time.monotonic() + seconds
        try:
            if not self._subscribed:
                self._pubsub.subscribe(self._channel)
                self._subscribed = True
            # Redis' confirmation that it listens comes first; before that, what was said to who waited before.
            while message := self._pubsub.get_message(timeout=max(0.0, until - time.monotonic())):
                if message["channel"] == self._channel.encode():
                    break
        except redis.RedisError:
            self._subscribed = False
            time.sleep(max(0.0, min(_PAUSE_SECONDS, until - time.monotonic())))
        return [self._mission_id]
