"""Reading the ledger's entries. A newer release or a stranger with a login may have written them. So no value makes the reader fail,
and it does not repeat values that no release writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import redis

from mission.model import MissionStatus, Priority, Reason, State
from mission.store.connection import outages
from mission.store.names import entry_key

# The fields of an entry that a mission's status shows.
STATUS_FIELDS = (
    *("state", "attempts", "secrets", "reason", "submitted_at", "finished_at", "cut", "put_off", "due_at"),
    "priority",
)

UNREADABLE = "unreadable"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # states, reasons, submitters
_LISTED = re.compile(r"[A-Za-z0-9_.:*\[\]-]{0,300}")  # a host, or a name after *, and a port
_NUMBER = re.compile(r"[0-9]{1,19}")
_YEAR_10000 = 253_402_300_800_000  # in ms since the epoch
_Word = TypeVar("_Word", bound=StrEnum)


def read_entries(client: redis.Redis, ids: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, bytes]]:
    """For each mission, in the ids' order, the named fields that its entry has. A key of another type counts as no entry.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    pipe: Any
    with outages(), client.pipeline(transaction=False) as pipe:
        for mission_id in ids:
            pipe.hmget(entry_key(mission_id), names)
        answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                raise answer
    for answer in answers:
        found = zip(names, answer, strict=True) if isinstance(answer, list) else ()
        yield {name: value for name, value in found if value is not None}


def word(value: bytes | None) -> str:
    """A state, a reason or a submitter; empty if nothing is stored."""
    text = (value or b"").decode(errors="replace")
    return text if not text or _WORD.fullmatch(text) else UNREADABLE


def listed(value: bytes | None) -> str:
    """An entry of the allowlist, like `*.example.com:8443`; empty if nothing is stored."""
    text = (value or b"").decode(errors="replace")
    return text if _LISTED.fullmatch(text) else UNREADABLE


def words(value: bytes | None) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(word(part) for part in (value or b"").split(b",") if part)


def number(value: bytes | None) -> int | None:
    """A number of at most 19 digits; None if there is none."""
    text = (value or b"").decode(errors="replace")
    return int(text) if _NUMBER.fullmatch(text) else None


def instant(value: bytes | None) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC; empty if nothing is stored."""
    if value is None:
        return ""
    milliseconds = number(value)
    if milliseconds is None or milliseconds >= _YEAR_10000:
        return UNREADABLE
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def status_of(mission_id: str, entry: Mapping[str, bytes]) -> MissionStatus:
    """A mission's status, from the `STATUS_FIELDS` of its entry."""
    return MissionStatus(
        id=mission_id,
        state=known(State, word(entry["state"])),
        attempts=number(entry.get("attempts")) or 0,
        secrets=number(entry.get("secrets")),
        reason=known(Reason, word(entry.get("reason"))) or None,
        submitted_at=instant(entry.get("submitted_at")),
        finished_at=instant(entry.get("finished_at")) or None,
        cut=words(entry.get("cut")),
        put_off=known(Reason, word(entry.get("put_off"))) or None,
        next_try_at=instant(entry.get("due_at")) or None,
        priority=priority_of(entry),
    )


def priority_of(entry: Mapping[str, bytes]) -> Priority | str:
    """A mission's priority; normal if the entry has none."""
    return known(Priority, word(entry.get("priority"))) or Priority.NORMAL


def known(kind: type[_Word], text: str) -> _Word | str:
    """The member of that name; the text itself if this release has none."""
    try:
        return kind(text)
    except ValueError:
        return text
