"""Word of a mission's end, to who waits for it: the ledger's functions publish it (https://redis.io/docs/latest/develop/pubsub/)."""

from __future__ import annotations

import time

import redis

from mission.store.names import ENDED

_PAUSE_SECONDS = 0.5


class EndNotice:
    """Hears of one mission's end. It may be missed, while Redis or the connection is away: who waits looks at the ledger, too."""

    def __init__(self, client: redis.Redis, mission_id: str) -> None:
        self._channel = ENDED + mission_id
        self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        self._subscribed = False

    def wait(self, seconds: float) -> None:
        """Return as soon as there may be something new, and after so many seconds. The first time that is once it listens."""
        until = time.monotonic() + seconds
        try:
            if not self._subscribed:
                self._pubsub.subscribe(self._channel)
                self._subscribed = True
            self._pubsub.get_message(timeout=seconds)  # Redis' confirmation that it listens comes first
        except redis.RedisError:
            self._subscribed = False
            time.sleep(max(0.0, min(_PAUSE_SECONDS, until - time.monotonic())))

    def close(self) -> None:
        """Listen no more."""
        self._pubsub.close()
