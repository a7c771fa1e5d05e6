"""The Lua scripts: run by their digest in one round trip, in a transaction and with replicas where asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError

from mission.errors import LedgerUnavailable
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.names import Key

# The number of the format of entries and messages. A release reads what it writes and the number before. One that brings a new
# number reads it and does not write it yet; the release after it writes it: so a rollback by one release can read everything.
WRITES = 1
READS = (1, 1)  # from, to


class Scripts:
    """Runs scripts; loads them where the server does not have them (any more).

    Args:
        client: whose login the scripts run with.
        settings: how many replicas must hold a write; without settings none has to.

    Raises (every method):
        LedgerUnavailable: Redis does not answer in time, refuses, or too few replicas hold a write.
    """

    def __init__(self, client: redis.Redis, settings: Settings | None = None) -> None:
        self._client = client
        self._replicas = settings.redis_replicas if settings else 0
        self._wait_ms = round(settings.redis_timeout * 800) if settings else 0

    def run(self, script: str, *args: Any, key: str = Key.QUEUED, replicated: bool = False) -> Any:
        """Run one script; its answer."""
        return self.send(lambda pipe: self.put(pipe, script, *args, key=key), replicated=replicated)[0]

    def put(self, pipe: Any, script: str, *args: Any, key: str = Key.QUEUED) -> None:
        """Put one script's call on a pipeline.

        EVALSHA counts the declared key as read, so it is one that the login may read. It tells a cluster the slot.
        """
        pipe.evalsha(_scripts()[script][0], 1, key, *args)

    def send(self, queue: Callable[[Any], None], *, transaction: bool = False, replicated: bool = False) -> list[Any]:
        """Send what `queue` puts on a pipeline, in one round trip; the answers."""
        with outages():
            try:
                return self._send(queue, transaction=transaction, replicated=replicated)
            except NoScriptError:
                with self._client.pipeline(transaction=False) as pipe:
                    for _, source in _scripts().values():
                        pipe.script_load(source)
                    pipe.execute()
                return self._send(queue, transaction=transaction, replicated=replicated)

    def _send(self, queue: Callable[[Any], None], *, transaction: bool, replicated: bool) -> list[Any]:
        # MULTI and EXEC by hand: WAIT must follow on the same connection, and redis-py gives it back after its own EXEC.
        pipe: Any
        with self._client.pipeline(transaction=False) as pipe:
            if transaction:
                pipe.execute_command("MULTI")
            queue(pipe)
            if transaction:
                pipe.execute_command("EXEC")
            replicas = self._replicas if replicated else 0
            if replicas:
                pipe.execute_command("WAIT", replicas, self._wait_ms)
            answers: list[Any] = pipe.execute()
        if replicas and (holding := answers.pop()) < replicas:
            raise LedgerUnavailable(f"store_unavailable: {holding} of {replicas} replicas hold the write")
        if not transaction:
            return answers
        for answer in answers[-1]:
            if isinstance(answer, Exception):
                raise answer
        return cast("list[Any]", answers[-1])


def as_text(value: Any) -> str:
    """What Redis answered, as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@cache
def _scripts() -> dict[str, tuple[str, str]]:
    """Digest and text of each script. In front of each stand the names of the keys and what all of them share."""
    folder = files("mission.store") / "lua"
    texts = {file.name[:-4]: file.read_text() for file in folder.iterdir() if file.name.endswith(".lua")}
    front = "".join(f"local {key.name} = '{key}'\n" for key in Key) + texts.pop("common")
    sources = {name: front + text for name, text in texts.items()}
    return {
        name: (sha1(source.encode(), usedforsecurity=False).hexdigest(), source) for name, source in sources.items()
    }
