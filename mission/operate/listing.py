"""Lists of missions, by state, submitter, age or batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, islice
from typing import Any

import redis

from mission.ids import is_mission_id
from mission.model import MissionStatus, State
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.entries import STATUS_FIELDS, number, read_entries, status_of, word
from mission.store.ledger import Ledger
from mission.store.names import Key
from mission.store.scripts import as_text

UNFINISHED = frozenset(state for state in State if not state.terminal)
_PAGE = 500
_SCAN_COUNT = 5000


@dataclass(frozen=True, slots=True)
class Listed:
    """A mission in a list: its status and its submitter."""

    status: MissionStatus
    submitter: str
    submitted_at_ms: int

    def as_dict(self) -> dict[str, Any]:
        """The mission as printed by the command line."""
        return self.status.as_dict() | {"submitter": self.submitter}


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects missions by state, by submitter, and by seconds since they were enqueued. None or an empty value selects all."""

    states: Collection[State] = UNFINISHED
    submitter: str | None = None
    at_least_seconds: float = 0.0
    at_most_seconds: float | None = None


def find_missions(
    client: redis.Redis, settings: Settings, selection: Selection, *, batch_id: str | None = None, limit: int
) -> list[Listed]:
    """The newest `limit` missions of a selection, the newest first; only of a batch, if one is named.

    It finds unfinished and dead missions by an index. Missions that succeeded, failed or were cancelled have no index: for them, it
    reads every entry, which takes seconds for each million.

    Raises:
        LedgerUnavailable: Redis does not answer, or the login may not list missions.
    """
    with outages():
        seconds, micros = client.time()
    now = seconds + micros / 1e6
    newest = round((now - selection.at_least_seconds) * 1000)
    oldest = 0 if selection.at_most_seconds is None else round((now - selection.at_most_seconds) * 1000)
    states = frozenset(selection.states) or frozenset(State)
    in_order = batch_id is None and states <= UNFINISHED
    if batch_id is not None:
        ids: Iterable[str] = dict.fromkeys(chain.from_iterable(Ledger(client, settings).batch(batch_id)))
    elif in_order:
        ids = _index(client, Key.OPEN, newest, oldest)
    elif states <= UNFINISHED | {State.DEAD}:
        of_dead = _index(client, Key.DEAD, "+inf", "-inf")  # by time of death
        ids = chain(of_dead, _index(client, Key.OPEN, newest, oldest) if states & UNFINISHED else ())
    else:
        ids = _entries(client)
    found = (
        one
        for one in _read(client, ids)
        if one.status.state in states
        and selection.submitter in (None, one.submitter)
        and oldest <= one.submitted_at_ms <= newest
    )
    return list(islice(found, limit)) if in_order else nlargest(limit, found, key=lambda one: one.submitted_at_ms)


def _index(client: redis.Redis, index: Key, newest: int | str, oldest: int | str) -> Iterator[str]:
    for start in range(0, 1 << 62, _PAGE):
        with outages():
            page: Any = client.zrevrangebyscore(index, newest, oldest, start=start, num=_PAGE)
        yield from map(as_text, page)
        if len(page) < _PAGE:
            return


def _entries(client: redis.Redis) -> Iterator[str]:
    with outages():
        for key in client.scan_iter(match=f"{Key.ENTRY}*", count=_SCAN_COUNT):
            yield as_text(key).removeprefix(Key.ENTRY)


def _read(client: redis.Redis, ids: Iterable[str]) -> Iterator[Listed]:
    remaining, seen = filter(is_mission_id, ids), set[str]()
    while page := list(islice(remaining, _PAGE)):
        for mission_id, entry in zip(page, read_entries(client, page, (*STATUS_FIELDS, "submitter")), strict=True):
            # While entries change, a scan may return one twice.
            if entry.get("state") and mission_id not in seen:
                seen.add(mission_id)
                submitted = number(entry.get("submitted_at")) or 0
                yield Listed(status_of(mission_id, entry), word(entry.get("submitter")), submitted)
