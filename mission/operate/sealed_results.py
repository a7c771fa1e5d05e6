"""Which sealed results there are, and when their missions ended. Nothing is opened here.

There is no index by time to keep right: results go by themselves (`DECODER_RESULT_TTL`), and who wants a day's looks at the
names of all keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import redis

from mission.model import State
from mission.store.connection import outages
from mission.store.ledger import instant
from mission.store.names import entry_key, parse_result_key, result_keys
from mission.store.scripts import as_text

_SCAN_COUNT = 5000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class SealedResult:
    """A result that can be opened: of which mission, how many secrets it holds, when the mission ended (RFC 3339, UTC)."""

    id: str
    secrets: int
    finished_at: str


def scan_results(client: redis.Redis) -> Iterator[str]:
    """The keys of all results, in no order; one may come twice while others come and go.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    with outages():
        for key in map(as_text, client.scan_iter(match=result_keys(), count=_SCAN_COUNT)):
            if parse_result_key(key):
                yield key


def find_results(client: redis.Redis, since: datetime, until: datetime) -> list[SealedResult]:
    """The results of missions that ended from `since` to before `until`, the earliest first.

    Raises:
        LedgerUnavailable: Redis does not answer.
    """
    begin, end = (round(moment.astimezone(UTC).timestamp() * 1000) for moment in (since, until))
    found: dict[str, tuple[int, int]] = {}
    keys = scan_results(client)
    while batch := [parsed for key in islice(keys, _BATCH) if (parsed := parse_result_key(key))]:
        for mission_id, finished, secrets in _read(client, batch):
            if begin <= finished < end:
                found[mission_id] = (finished, secrets)
    rows = sorted((finished, mission_id, secrets) for mission_id, (finished, secrets) in found.items())
    return [SealedResult(mission_id, secrets, instant(str(finished))) for finished, mission_id, secrets in rows]


def _read(client: redis.Redis, batch: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Mission, end and count of those that were committed with this token: what a late worker left is no result."""
    pipe: Any
    with outages(), client.pipeline(transaction=False) as pipe:
        for mission_id, _ in batch:
            pipe.hmget(entry_key(mission_id), ("state", "token", "finished_at", "secrets"))
        answers = pipe.execute()
    for (mission_id, token), fields in zip(batch, answers, strict=True):
        state, *numbers = (as_text(field or b"") for field in fields)
        if state == State.SUCCEEDED and all(number.isdecimal() for number in numbers):
            current, finished, secrets = map(int, numbers)
            if current == token:
                yield mission_id, finished, secrets
