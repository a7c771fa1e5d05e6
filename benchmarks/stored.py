"""The bytes of Redis' memory that each kind of stored item takes, for `benchmarks.capacity`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import redis

from benchmarks.throughput import as_packaged
from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.ids import new_mission_id
from mission.model import Reason, Secret, State
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.changes import Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import QUEUE, Key, result_key
from producer import MissionClient
from worker.costs import Stored
from worker.local.embedded import EmbeddedRedis

STORED = 10_000
URL_CHARACTERS = 100
_LOT = 500
_T = TypeVar("_T")


def rounded(value: float) -> float:
    """Round to three significant digits."""
    return float(f"{value:.3g}")


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A fresh server that reports how much its memory has grown since it was empty."""

    client: redis.Redis
    settings: Settings
    empty: int

    def grown(self, count: int) -> float:
        """Bytes per item, for `count` items."""
        used: int = self.client.info("memory")["used_memory"]
        return round((used - self.empty) / count)


@contextmanager
def _weighed() -> Iterator[_Weighed]:
    with EmbeddedRedis(env=as_packaged()) as server, redis.Redis.from_url(server.url) as client:
        settings = Settings.from_env(redis_url=server.url, url_key=generate_url_key())
        yield _Weighed(client, settings, client.info("memory")["used_memory"])


def in_redis() -> Stored:
    """Measure the bytes of each kind of item."""
    queued, leased, finished, outcome = _missions(State.SUCCEEDED)
    dead = _missions(State.DEAD)[2]
    few, many = _records(3), _records(30)
    secret = (many - few) / 27
    return Stored(queued, leased, finished, dead, round(few - 3 * secret), rounded(secret), _audit_entry(), outcome)


def _missions(end: State) -> tuple[float, float, float, float]:
    """Bytes of a mission in three states: queued, leased and finished; and the bytes of its outcome."""
    with _weighed() as place:
        producer, ledger = MissionClient(place.settings), Ledger(place.client, place.settings)
        page = "https://docs.example.com/".ljust(URL_CHARACTERS - 6, "x")
        ids = iter([producer.enqueue(f"{page}{number:06}").id for number in range(STORED)])
        queued = place.grown(STORED)
        place.client.delete(QUEUE)
        claims = [claim for some in _lots(ids) for claim in ledger.claim(len(some), 60.0).claims]
        leased = place.grown(STORED)
        for some in _lots(iter(claims)):
            if end is State.DEAD:
                ledger.release([Release(one.id, one.token, Reason.HTTP_SERVER_ERROR, 0.0, True, "") for one in some], 1)
            else:
                ledger.commit([Commit(one.id, one.token, end, None, 0) for one in some], 60.0)
        told = place.grown(STORED)
        place.client.delete(Key.OUTCOMES)
        return queued, leased, (finished := place.grown(STORED)), told - finished


def _lots(items: Iterator[_T]) -> Iterator[list[_T]]:
    while some := list(islice(items, _LOT)):
        yield some


def _records(secrets: int) -> float:
    """Bytes of a sealed record with `secrets` secrets."""
    recipient = Identity.generate().recipient
    found = [Secret("marker", "API_KEY", f"sample-{number:04}-1111", number, 12) for number in range(secrets)]
    with _weighed() as place:
        for token in range(STORED // 10):
            mission_id = new_mission_id()
            record = seal_secrets(recipient, found, mission_id=mission_id, token=token)
            place.client.set(result_key(mission_id, token + 10**15), record, ex=3600)
        return place.grown(STORED // 10)


def _audit_entry() -> float:
    with _weighed() as place:
        audit = AuditLog(place.client, Actor("reader", "jane", "laptop-17.example.com"), emit=lambda _: None)
        for _ in range(STORED // 10):
            audit.append("reveal", mission_id=new_mission_id(), key_id="0" * 16, why="ticket 4711", outcome="opened")
        return place.grown(STORED // 10)
