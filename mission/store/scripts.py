"""Calls of the ledger's functions on the server: one round trip, optionally in a transaction and with replicas."""

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

# The format number of entries and messages. A release reads the format that it writes and the one before. The first release with a
# new format only reads it; the release after it writes it. So after a rollback by one release, everything stays readable.
WRITES = 1
READS = (1, 1)  # from, to


class Scripts:
    """Calls functions; loads them if the server lacks them and the login may load them.

    Args:
        client: the functions run with its login.
        settings: how many replicas must hold a write; without settings, none.

    Raises (every method):
        LedgerUnavailable: Redis does not answer in time, refuses or lacks the functions, or too few replicas hold a write.
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
                from mission.store.acl import logins_that_call  # large, and needed only here

                who = " or ".join(logins_that_call(script))
                raise LedgerRefuses(
                    f"store_unavailable: this Redis user may not do that; use the login {who} (DECODER_REDIS_URL)"
                ) from None

        return self._loading(call)

    def put(self, pipe: Any, script: str, *args: Any, key: str = Key.QUEUED) -> Any:
        """Put one call on a pipeline, or on a client, which answers.

        FCALL counts the declared key as read and written, so the login must have the right to it. The key also selects a cluster's slot.
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
        # MULTI and EXEC by hand: WAIT must follow on the same connection, and redis-py releases that after its own EXEC.
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
    """Redis' answer as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
