"""The ledger's functions on the server: called in one round trip, in a transaction and with replicas where asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import redis
from redis.exceptions import NoPermissionError

from mission.errors import LedgerRefuses, LedgerUnavailable
from mission.settings import Settings
from mission.store import library
from mission.store.connection import outages
from mission.store.names import Key

# The number of the format of entries and messages. A release reads what it writes and the number before. One that brings a new
# number reads it and does not write it yet; the release after it writes it: so a rollback by one release can read everything.
WRITES = 1
READS = (1, 1)  # from, to


class Scripts:
    """Calls functions; loads them where the server does not have them (any more) and the login may.

    Args:
        client: whose login the functions run with.
        settings: how many replicas must hold a write; without settings none has to.

    Raises (every method):
        LedgerUnavailable: Redis does not answer in time, refuses, lacks the functions, or too few replicas hold a write.
    """

    def __init__(self, client: redis.Redis, settings: Settings | None = None) -> None:
        self._client = client
        self._replicas = settings.redis_replicas if settings else 0
        self._wait_ms = round(settings.redis_timeout * 800) if settings else 0

    def run(self, script: str, *args: Any, key: str = Key.QUEUED, replicated: bool = False) -> Any:
        """Call the function of the file SCRIPT.lua; its answer."""

        def call() -> Any:
            try:
                if replicated and self._replicas:
                    return self._send(lambda pipe: self.put(pipe, script, *args, key=key), replicated=True)[0]
                return self.put(self._client, script, *args, key=key)  # a pipeline for one call costs 20 µs
            except NoPermissionError:
                from mission.store.acl import logins_that_call  # it is large, and nobody else here needs it

                who = " or ".join(logins_that_call(script))
                raise LedgerRefuses(
                    f"store_unavailable: this login may not do that; the login {who} may (DECODER_REDIS_URL)"
                ) from None

        return self._loading(call)

    def put(self, pipe: Any, script: str, *args: Any, key: str = Key.QUEUED) -> Any:
        """Put one call on a pipeline, or on a client, which answers.

        FCALL counts the declared key as read and written, so it is one that the login may call it with. It tells a cluster the slot.
        """
        return pipe.fcall(library.function_name(script), 1, key, *args)

    def send(self, queue: Callable[[Any], None], *, transaction: bool = False, replicated: bool = False) -> list[Any]:
        """Send what `queue` puts on a pipeline, in one round trip; the answers."""
        answers: list[Any] = self._loading(lambda: self._send(queue, transaction=transaction, replicated=replicated))
        return answers

    def _loading(self, call: Callable[[], Any]) -> Any:
        with outages():
            try:
                return call()
            except redis.ResponseError as error:
                if not library.not_found(error):
                    raise
            self._load()
            return call()

    def _load(self) -> None:
        try:
            library.load(self._client)
        except NoPermissionError:
            raise LedgerRefuses(f"store_unavailable: Redis lacks the decoder's functions: {library.REMEDY}") from None

    def _send(self, queue: Callable[[Any], None], *, transaction: bool = False, replicated: bool = False) -> list[Any]:
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
