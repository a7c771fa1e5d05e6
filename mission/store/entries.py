"""Reading the ledger's entries. A newer release may have written them, or a stranger with a login: so no value ends the reader,
and what no release writes is not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from mission.store.connection import outages
from mission.store.names import entry_key

UNREADABLE = "unreadable"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # states, reasons, submitters
_NUMBER = re.compile(r"[0-9]{1,19}")
_YEAR_10000 = 253_402_300_800_000  # in ms since the epoch


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """Fields of a mission's entry as they are stored; none where there is no entry."""

    id: str
    fields: Mapping[str, bytes]

    def word(self, name: str) -> str:
        """A state, a reason, a submitter; empty where there is none."""
        return word(self.fields.get(name))

    def number(self, name: str) -> int | None:
        """A number of at most 19 digits; None where there is none."""
        return number(self.fields.get(name))

    def time(self, name: str) -> str:
        """A time as RFC 3339 in UTC; empty where there is none."""
        return instant(self.fields.get(name))


def read_entries(client: redis.Redis, ids: Sequence[str], names: Sequence[str]) -> Iterator[Entry]:
    """These fields of each mission's entry, in the ids' order. A key of another type is no entry.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    pipe: Any
    with outages(), client.pipeline(transaction=False) as pipe:
        for mission_id in ids:
            pipe.hmget(entry_key(mission_id), names)
        answers = pipe.execute(raise_on_error=False)
        for mission_id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                raise answer
            values = [] if isinstance(answer, Exception) else answer
            found = zip(names, values, strict=False)
            yield Entry(mission_id, {name: value for name, value in found if value is not None})


def word(value: bytes | None) -> str:
    """What is stored, if it is a word such as releases write; empty where nothing is."""
    text = (value or b"").decode(errors="replace")
    return text if not text or _WORD.fullmatch(text) else UNREADABLE


def number(value: bytes | None) -> int | None:
    """What is stored, if it is a number of at most 19 digits."""
    text = (value or b"").decode(errors="replace")
    return int(text) if _NUMBER.fullmatch(text) else None


def instant(value: bytes | None) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC; empty where nothing is stored."""
    if value is None:
        return ""
    milliseconds = number(value)
    if milliseconds is None or milliseconds >= _YEAR_10000:
        return UNREADABLE
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
