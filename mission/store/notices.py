"""Notices of a mission's end for waiting clients; the ledger's functions publish them (https://redis.io/docs/latest/develop/pubsub/)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from mission.store.names import ENDED

_PAUSE_SECONDS = 0.5
# How many idle connections are kept for later waits.
MOST_IDLE = 16


class EndNotices:
    """Receives notices of missions' ends. It keeps connections for later waits: opening one takes longer than enqueueing. Thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: list[Any] = []
        self._process = os.getpid()

    @contextmanager
    def of(self, mission_id: str) -> Iterator[EndNotice]:
        """Receive the notice of one mission's end."""
        if self._process != os.getpid():  # the idle connections are the parent's
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
    """Receives the notice of one mission's end. A notice is lost while Redis or the connection is down, so callers also read the ledger."""

    def __init__(self, pubsub: Any, mission_id: str) -> None:
        self._pubsub = pubsub
        self._mission_id = mission_id
        self._channel = ENDED + mission_id
        self._subscribed = False

    def wait(self, seconds: float) -> list[str]:
        """The mission, once there may be news of it, at the latest after `seconds`. The first call returns once it listens."""
        until = time.monotonic() + seconds
        try:
            if not self._subscribed:
                self._pubsub.subscribe(self._channel)
                self._subscribed = True
            # Redis' confirmation of the subscription comes first, after leftovers for earlier waits.
            while message := self._pubsub.get_message(timeout=max(0.0, until - time.monotonic())):
                if message["channel"] == self._channel.encode():
                    break
        except redis.RedisError:
            self._subscribed = False
            time.sleep(max(0.0, min(_PAUSE_SECONDS, until - time.monotonic())))
        return [self._mission_id]
