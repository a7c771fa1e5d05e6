"""The ledger's Lua scripts: loaded once, run in one round trip, in a transaction and with replicas where asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError

from mission.errors import LedgerUnavailable
from mission.settings import Settings
from mission.store.connection import outages

PREFIX = "{decoder}:"
# The number of the format of entries and messages. A release reads what it writes and the number before. One that brings a new
# number reads it and does not write it yet; the release after it writes it: so a rollback by one release can read everything.
WRITES = 1
READS = (1, 1)  # from, to
NAMES = ("admit", "claim", "commit", "release", "reap", "host", "hosts", "replay", "discard", "forget")


class Scripts:
    """Runs scripts by their digest; loads them where the server does not have them (any more).

    Raises (every method):
        LedgerUnavailable: Redis does not answer in time, refuses, or too few replicas hold a write.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._replicas = settings.redis_replicas
        self._wait_ms = round(settings.redis_timeout * 800)
        self._sources = {name: _source(name) for name in NAMES}
        self._shas: dict[str, str] = {}

    def call(self, pipe: Any, script: str, *args: Any) -> None:
        """Put one script's call on a pipeline."""
        # The declared key only tells a cluster the slot: EVALSHA counts declared keys as read.
        pipe.evalsha(self._shas[script], 1, PREFIX + "queued", PREFIX, "{} {} {}".format(WRITES, *READS), *args)

    def run(self, queue: Callable[[Any], None], *, transaction: bool = False, replicated: bool = False) -> list[Any]:
        """Send what `queue` puts on a pipeline, in one round trip; the answers."""
        with outages():
            if not self._shas:
                self._load()
            try:
                return self._send(queue, transaction=transaction, replicated=replicated)
            except NoScriptError:
                self._load()
                return self._send(queue, transaction=transaction, replicated=replicated)

    def _load(self) -> None:
        self._shas = {name: self._client.script_load(source) for name, source in self._sources.items()}

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
    return value.decode() if isinstance(value, bytes) else str(value)


def _source(name: str) -> str:
    folder = files("mission.store") / "lua"
    return (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
