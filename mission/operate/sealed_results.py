"""The list of sealed results, with the end of their missions. Nothing is opened here.

There is no index by time to maintain: results expire by themselves (`DECODER_RESULT_TTL`), and to list a day's results, it scans the
names of all keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import redis

from mission.model import State
from mission.store.connection import outages
from mission.store.entries import instant, number, read_entries, word
from mission.store.names import parse_result_key, result_keys
from mission.store.scripts import as_text

_SCAN_COUNT = 5000
_BATCH = 500
_FIELDS = ("state", "token", "finished_at", "secrets")


@dataclass(frozen=True, slots=True)
class SealedResult:
    """A result that can be opened: its mission, how many secrets it holds, when the mission ended (RFC 3339, UTC)."""

    id: str
    secrets: int
    finished_at: str


def scan_results(client: redis.Redis) -> Iterator[str]:
    """The Redis keys of all results, unordered; a key may repeat while others change.

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
    found: dict[str, SealedResult] = {}
    keys = scan_results(client)
    while batch := [parsed for key in islice(keys, _BATCH) if (parsed := parse_result_key(key))]:
        entries = read_entries(client, [mission_id for mission_id, _ in batch], _FIELDS)
        for (mission_id, token), entry in zip(batch, entries, strict=True):
            finished, secrets = number(entry.get("finished_at")), number(entry.get("secrets"))
            # A record under another token than the entry's is not a result.
            if word(entry.get("state")) != State.SUCCEEDED or number(entry.get("token")) != token:
                continue
            if finished is not None and secrets is not None and begin <= finished < end:
                found[mission_id] = SealedResult(mission_id, secrets, instant(entry["finished_at"]))
    return sorted(found.values(), key=lambda result: (result.finished_at, result.id))
