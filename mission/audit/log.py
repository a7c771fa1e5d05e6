"""The audit in Redis: who did what to which mission, when, why, and how it ended. A log line goes with each entry.

The stream's fields are `e`, an entry's canonical JSON, and `h`, its hash: see `mission.audit.chain`.
"""

from __future__ import annotations

import os
import pwd
import random
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

import redis

from mission.audit.chain import (
    GENESIS,
    Actor,
    AuditEntry,
    Finding,
    Stored,
    StreamFacts,
    check_chain,
    check_log,
    read_log,
)
from mission.errors import AuditError, LedgerUnavailable
from mission.store.connection import outages
from mission.store.names import PREFIX, Key
from mission.store.scripts import Scripts

_APPEND_TRIES = 50
_PAGE = 500
# Entries go by the server's clock and carry their writer's: so far the two may be apart.
_CLOCK_SKEW = timedelta(minutes=5)


class AuditLog:
    """Appends to the audit and reads it. Every failure, also of the log line, is an `AuditError`.

    Args:
        client: the login that acts.
        ttl_seconds: how long entries stay; older ones go with the next append.
        actor: who acts; without one it is asked of Redis and the system at the first append.
        emit: takes each entry's log line, without a newline; by default it goes to stderr.
        stream: the chain.
    """

    def __init__(
        self,
        client: redis.Redis,
        ttl_seconds: float,
        actor: Actor | None = None,
        emit: Callable[[str], None] | None = None,
        stream: Key = Key.AUDIT,
    ) -> None:
        self._client = client
        self._stream = stream
        self._log_field = f"decoder.{stream.removeprefix(PREFIX).replace(':', '.')}"
        self._ttl_seconds = ttl_seconds
        self._actor = actor
        self._emit = emit or _to_stderr
        self._scripts = Scripts(client)

    def append(self, action: str, *, mission_id: str | None, key_id: str | None, why: str, outcome: str) -> AuditEntry:
        """Record something, in the stream and in the log.

        Args:
            action: what is done, in a word.
            mission_id: to which mission, if to one.
            key_id: with which key, hex, if with one.
            why: the reason that the actor gave.
            outcome: how it ended, or `started`.

        Raises:
            AuditError: it is not on record, so what was to be done must not be.
        """
        with _to_be("written"):
            self._actor = actor = self._actor or find_actor(self._client)
            head = self._head()
            for attempt in range(_APPEND_TRIES):
                seq, prev = _position(head)
                entry = AuditEntry(seq + 1, _now(), actor, action, mission_id, key_id, why, outcome, prev)
                args: list[Any] = [prev, entry.text, entry.hash, round(self._ttl_seconds * 1000)]
                verdict, *rest = self._scripts.run("audit_append", *args, key=self._stream)
                if verdict == b"ok":
                    self._emit(entry.log_line(self._log_field))
                    return entry
                head = dict(zip(rest[0][::2], rest[0][1::2], strict=False))
                # Others append as well: step aside, longer each time, up to 50 ms.
                time.sleep(random.uniform(0, min(0.05, 0.001 * 2**attempt)))  # noqa: S311 (jitter, no secret)
        raise AuditError("the audit could not be written: too many others write to it; try again")

    def entries(self, *, last: int | None = None, mission_id: str | None = None) -> list[AuditEntry]:
        """Entries, the oldest first: of one mission or of all, only the `last` so many if given.

        What is no entry is left out; `verify` tells of it.
        """
        with _to_be("read"):
            stream = self._all(self._client.xrevrange, "+", "-")
            found = (entry for stored in stream if (entry := stored.entry))
            wanted = (entry for entry in found if mission_id in (None, entry.mission_id))
            return list(islice(wanted, last))[::-1]

    def verify(self, log: Iterable[str] = ()) -> list[Finding]:
        """What is wrong with the stream, in itself and against log lines.

        Args:
            log: lines of one or more logs, in any order; those that are no audit records do not count.
        """
        # The log first: by the time that the stream is read, it holds the entry of every line.
        logged = list(read_log(log, self._log_field))
        with _to_be("read"):
            facts = self._facts()
            hashes, findings = check_chain(self._all(self._client.xrange, "-", facts.last_id), facts)
            seconds, micros = self._client.time()
        now = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
        oldest = now - timedelta(seconds=self._ttl_seconds) + _CLOCK_SKEW
        return findings + list(check_log(logged, hashes, oldest))

    def _head(self) -> Mapping[bytes, bytes]:
        found = cast("list[Any]", self._client.xrevrange(self._stream, count=1))
        return found[0][1] if found else {}

    def _facts(self) -> StreamFacts:
        if not self._client.exists(self._stream):
            return StreamFacts()
        info = self._client.xinfo_stream(self._stream)
        return StreamFacts(
            info["entries-added"], info["last-generated-id"].decode(), info["max-deleted-entry-id"].decode()
        )

    def _all(self, read: Callable[..., Any], start: str, end: str) -> Iterator[Stored]:
        """The stream a page at a time, by XRANGE or XREVRANGE."""
        while page := read(self._stream, start, end, count=_PAGE):
            for place, fields in page:
                yield Stored(place.decode(), fields.get(b"e", b""), fields.get(b"h", b""))
            start = f"({page[-1][0].decode()}"


def find_actor(client: redis.Redis) -> Actor:
    """The actor behind this process and this connection.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    try:
        login = str(client.acl_whoami())
    except redis.ResponseError:  # a login may be forbidden to ask
        login = client.connection_pool.connection_kwargs.get("username") or "default"
    try:
        os_user = pwd.getpwuid(os.getuid()).pw_name  # not from the environment, which the actor sets
    except KeyError:  # a container may run under a number that has no name
        os_user = str(os.getuid())
    return Actor(login, os_user, socket.gethostname())


def _position(head: Mapping[bytes, bytes]) -> tuple[int, str]:
    """Sequence and hash of the chain's head."""
    if not head:
        return 0, GENESIS
    try:
        return AuditEntry.parse(head[b"e"]).seq, head[b"h"].decode()
    except (LookupError, ValueError):
        raise AuditError(
            "the audit could not be written: its newest entry is not one of the decoder's; see `decoder audit verify`"
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def _to_be(done: str) -> Iterator[None]:
    try:
        with outages():
            yield
    except (LedgerUnavailable, OSError) as error:
        raise AuditError(f"the audit could not be {done}: {error}") from None
