"""The audit in Redis: who did what to which mission, when, why, and how it ended. Each entry also becomes a log line.

A chain is a list that logins can only append to; only the auditor's login may trim its old end. See `mission.audit.chain`.
"""

from __future__ import annotations

import os
import pwd
import random
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

import redis

from mission.audit.chain import Finding, check_chain, check_log, expired, read_log
from mission.audit.entry import (
    LOG_FIELD,
    MEND,
    TRIM,
    Actor,
    AuditEntry,
    Link,
    entry_of,
    load_json,
    mend_outcome,
    trim_outcome,
)
from mission.errors import AuditError, LedgerUnavailable
from mission.store.connection import outages
from mission.store.names import Key
from mission.store.scripts import Scripts

_APPEND_TRIES = 50
_PAGE = 500
_MARKS = 100  # at most, in one mend
# How far a writer's clock may be ahead of the server's.
_CLOCK_SKEW = timedelta(minutes=5)
_LOG_FIELDS = {Key.AUDIT: LOG_FIELD, Key.AUDIT_KEYS: f"{LOG_FIELD}.keys"}


class AuditLog:
    """Appends to the audit and reads it. Every failure, including one of the log line, is an `AuditError`.

    Args:
        client: the connection of the acting login.
        actor: who acts; by default, Redis and the system are asked at the first append.
        emit: takes each entry's log line, without a newline; by default it goes to stderr. On a terminal, a single note
            that there is a record replaces the lines.
        chain: the chain to use.
    """

    def __init__(
        self,
        client: redis.Redis,
        actor: Actor | None = None,
        emit: Callable[[str], None] | None = None,
        chain: Key = Key.AUDIT,
    ) -> None:
        self._client = client
        self._key = chain
        self._actor = actor
        self._emit = emit or self._to_stderr
        self._told = False
        self._scripts = Scripts(client)

    def append(self, action: str, *, mission_id: str | None, key_id: str | None, why: str, outcome: str) -> AuditEntry:
        """Record an action in the chain and in the log.

        Args:
            action: the action, in one word.
            mission_id: the mission that it affects, if it affects one.
            key_id: the key that it uses, hex, if it uses one.
            why: the reason that the actor gave.
            outcome: how it ended, or `started`.

        Raises:
            AuditError: the entry could not be recorded, so the action must not be done.
        """
        return self._put("audit_append", action, mission_id, key_id, why, outcome)

    def trim(self, ttl: float, *, why: str) -> int:
        """Remove the oldest elements up to the last entry that is older than `ttl` seconds, and record it; return their number.

        Raises:
            AuditError: the login lacks permission, or the trim could not be recorded; nothing was removed.
        """
        with _to_be("read"):
            seconds, micros = self._client.time()
            now = datetime.fromtimestamp(seconds + micros / 1e6, UTC)
            found = expired(self._elements(), now - timedelta(seconds=ttl), now + _CLOCK_SKEW)
        if found is None:
            return 0
        count, newest, last = found
        self._put("audit_trim", TRIM, None, None, why, trim_outcome(count, last), count, newest)
        return count

    def mend(self, *, why: str) -> list[Finding]:
        """Record the findings in the list itself as known. The elements stay, and `verify` reports who mended them.

        Returns:
            The findings that were not known before.

        Raises:
            AuditError: it could not be recorded.
        """
        found = [finding for finding in self.verify() if not finding.known]
        for start in range(0, len(found), _MARKS):
            marks = [finding.mark for finding in found[start : start + _MARKS]]
            self.append(MEND, mission_id=None, key_id=None, why=why, outcome=mend_outcome(marks))
        return found

    def entries(
        self,
        *,
        last: int | None = None,
        mission_id: str | None = None,
        wanted: Callable[[AuditEntry], bool] = lambda _: True,
    ) -> list[AuditEntry]:
        """Entries, oldest first: of one mission or of all, filtered by `wanted`, and only the newest `last` if given.

        Invalid elements are left out; `verify` reports them.
        """
        with _to_be("read"):
            found = (entry for element in self._newest_first() if (entry := entry_of(element)))
            chosen = (entry for entry in found if mission_id in (None, entry.mission_id) and wanted(entry))
            return list(islice(chosen, last))[::-1]

    def verify(self, log: Iterable[str] = ()) -> list[Finding]:
        """Findings in the chain itself and against log lines, including those that are known and mended.

        Args:
            log: lines of one or more logs, in any order; lines that are not audit records are ignored.
        """
        # Read the log first: the list, read later, then holds the entry of every line.
        logged = list(read_log(log, _LOG_FIELDS[self._key]))
        with _to_be("read"):
            checked = check_chain(self._elements())
        return checked.findings + list(check_log(logged, checked))

    def _put(
        self, script: str, action: str, mission_id: str | None, key_id: str | None, why: str, outcome: str, *args: Any
    ) -> AuditEntry:
        with _to_be("written"):
            self._actor = actor = self._actor or find_actor(self._client)
            for attempt in range(_APPEND_TRIES):
                newest, head = self._head()
                entry = AuditEntry(head.next_seq, _now(), actor, action, mission_id, key_id, why, outcome, head.hash)
                if self._scripts.run(script, newest, entry.element, *args, key=self._key):
                    self._emit(entry.log_line(_LOG_FIELDS[self._key]))
                    return entry
                # Another writer was faster: back off, longer each time, up to 50 ms.
                time.sleep(random.uniform(0, min(0.05, 0.001 * 2**attempt)))  # noqa: S311 (jitter, no secret)
        raise AuditError("the audit could not be written: too many other writers; try again")

    def _to_stderr(self, line: str) -> None:
        if sys.stderr.isatty():  # no log collector reads a terminal
            if self._told:
                return
            self._told, line = True, f"note: recorded in the audit: {load_json(line)['event.action']}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _head(self) -> tuple[bytes, Link]:
        """The newest element, and a link to the newest valid entry, which the next entry continues."""
        newest: bytes | None = None
        for element in self._newest_first():
            newest = element if newest is None else newest
            if entry := entry_of(element):
                return newest, entry.link
        return newest or b"", Link()

    def _newest_first(self) -> Iterator[bytes]:
        """The list backwards: first the newest element, then a page at a time."""
        end, size = self._client.llen(self._key) - 1, 1
        while end >= 0:
            start = max(0, end + 1 - size)
            yield from reversed(self._page(start, end))
            end, size = start - 1, _PAGE

    def _elements(self) -> Iterator[bytes]:
        """The list as it is now, a page at a time."""
        oldest = self._client.lindex(self._key, 0)
        end = self._client.llen(self._key)
        for start in range(0, end, _PAGE):
            yield from self._page(start, min(start + _PAGE, end) - 1)
        if self._client.lindex(self._key, 0) != oldest:
            raise AuditError("the audit was trimmed during the read; try again")

    def _page(self, start: int, end: int) -> list[bytes]:
        return cast("list[bytes]", self._client.lrange(self._key, start, end))


def find_actor(client: redis.Redis) -> Actor:
    """The actor behind this process and this connection.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    try:
        login = str(client.acl_whoami())
    except redis.ResponseError:  # a login may lack permission to ask
        login = client.connection_pool.connection_kwargs.get("username") or "default"
    try:
        os_user = pwd.getpwuid(os.getuid()).pw_name  # not from the environment, which the actor sets
    except KeyError:  # a container may run under a user id without a name
        os_user = str(os.getuid())
    return Actor(login, os_user, socket.gethostname())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _to_be(done: str) -> Iterator[None]:
    try:
        with outages():
            yield
    except (LedgerUnavailable, OSError) as error:
        raise AuditError(f"the audit could not be {done}: {error}") from None
