"""The reaper on a real ledger and a real queue: the messages that it publishes again, and its log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import redis

from mission.errors import LedgerUnavailable
from mission.model import Priority, Reason, State
from mission.store import ledger as ledger_module
from mission.store.changes import Release
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, QUEUE_OF, Key, entry_key
from tests.claims import claim_these
from tests.conftest import wait_for
from tests.queue_entries import arguments
from tests.unit.worker.parts import Keys, deaths, ended
from worker.observe import metrics
from worker.settings import WorkerSettings
from worker.work import reaper as reaper_module
from worker.work.hosts import Hosts
from worker.work.reaper import Reaper

pytestmark = pytest.mark.server("kombu's own connections")


@pytest.fixture
def reaper(ledger: Ledger, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reaper]:
    monkeypatch.setattr(reaper_module, "REAP_INTERVAL_SECONDS", 0.01)
    reaper = Reaper(ledger, Hosts(ledger, 8), max_attempts=2, lease_seconds=60)
    yield reaper
    reaper.stop()
    if reaper._thread.is_alive():
        reaper._thread.join(30)


def again(reaper: Reaper, client: redis.Redis) -> list[list[str]]:
    """Run a round, however little time has passed since the last one; return the queue's content."""
    client.delete(PREFIX + "reaper")
    reaper.round()
    return published(client)


def published(client: redis.Redis) -> list[list[str]]:
    """The mission ids of each message in the queue, the oldest message first."""
    entries: Any = client.lrange("missions", 0, -1)
    return [arguments(entry)[0][0] for entry in reversed(entries)]


def test_missions_whose_lease_ran_out_are_published_again(reaper: Reaper, keys: Keys, client: redis.Redis) -> None:
    ids = keys.admit(*["https://docs.example/"] * 3)
    claim_these(keys.ledger, ids, 3, 0.001)
    wait_for(lambda: again(reaper, client), what="the leases to run out")
    assert sorted(chain.from_iterable(published(client))) == sorted(ids)


def test_each_is_published_in_the_queue_of_its_priority(reaper: Reaper, keys: Keys, client: redis.Redis) -> None:
    for priority in Priority:
        keys.admit(priority=priority)
    claims = keys.ledger.claim(3, 60).claims
    keys.ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0.0) for claim in claims], 5)
    wait_for(lambda: again(reaper, client), what="the due times")
    assert [client.llen(queue) for queue in QUEUE_OF.values()] == [1, 1, 1]


def test_missions_whose_time_has_come_share_a_message(reaper: Reaper, keys: Keys, client: redis.Redis) -> None:
    ids = keys.admit(*["https://docs.example/"] * 20)
    claims = claim_these(keys.ledger, ids, 20, 60).claims
    keys.ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0.0) for claim in claims], 5)
    wait_for(lambda: again(reaper, client), what="the due times")
    assert sorted(map(len, published(client))) == [4, 16]
    assert sorted(chain.from_iterable(published(client))) == sorted(ids)


def test_deaths_are_counted_and_told_also_where_nothing_can_be_published(
    reaper: Reaper,
    keys: Keys,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("store_unavailable: away")

    monkeypatch.setattr(Ledger, "wake", away)
    doomed, stuck = keys.claim(), keys.claim()
    client.hset(entry_key(doomed.id), mapping={"attempts": "2", "crashes": "2"})
    client.zadd(PREFIX + "leases", {doomed.id: 1, stuck.id: 1})
    before = ended(State.DEAD, "attempts_exhausted")
    with pytest.raises(LedgerUnavailable):
        again(reaper, client)
    assert ended(State.DEAD, "attempts_exhausted") == before + 1
    assert deaths(caplog) == [(doomed.id, "attempts_exhausted")]
    assert keys.ledger.status(doomed.id).state is State.DEAD
    assert "2 leases expired" in caplog.messages


def test_what_was_stuck_is_told(
    reaper: Reaper, keys: Keys, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.zadd(PREFIX + "leases", {keys.claim().id: 1})
    again(reaper, client)
    assert "1 leases expired" in caplog.text


def test_where_nothing_is_stuck_nothing_is_published_or_told(
    reaper: Reaper, keys: Keys, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    keys.claim()
    keys.admit()
    again(reaper, client)
    assert published(client) == []
    assert caplog.text == ""


def test_it_says_once_that_the_ledger_does_not_answer_and_once_that_it_does(
    reaper: Reaper, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rounds = []

    def away(*_: object) -> None:
        rounds.append(1)
        raise LedgerUnavailable("store_unavailable: away")

    monkeypatch.setattr(ledger, "reap", away)
    assert not reaper.ledger_answers()
    reaper.start()
    wait_for(lambda: len(rounds) > 3)
    assert not reaper.ledger_answers()
    monkeypatch.undo()
    wait_for(reaper.ledger_answers)
    told = [record.getMessage() for record in caplog.records if record.name == "decoder.reaper"]
    assert told == ["the ledger does not answer: store_unavailable: away", "the ledger answers"]


def test_it_tells_an_error_from_an_outage(
    reaper: Reaper, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Ledger, "mend", lambda *_: [])
    monkeypatch.setattr(ledger_module, "REAP_INTERVAL_SECONDS", 0.001)  # so that each round runs and meets the error
    client.set(Key.LEASES, "x")
    reaper.start()
    wait_for(lambda: "the ledger refuses: store_unavailable: WRONGTYPE" in caplog.text)
    assert "does not answer" not in caplog.text
    assert not reaper.ledger_answers()
    monkeypatch.undo()
    wait_for(reaper.ledger_answers)


def test_what_it_puts_right_is_told_and_counted(
    reaper: Reaper, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    count = metrics.SECURITY_EVENTS.labels(metrics.DAMAGED_KEY)._value
    before = count.get()
    client.set(Key.LEASES, "DCDR-canary")
    reaper.round()
    assert "'{decoder}:leases' was damaged (string) and was put right" in caplog.text
    assert "DCDR-canary" not in caplog.text
    assert count.get() == before + 1
    reaper.round()
    assert count.get() == before + 1


def test_it_outlives_what_nobody_expected(
    reaper: Reaper, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = []

    def broken(*_: object) -> None:
        rounds.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(ledger, "reap", broken)
    reaper.start()
    wait_for(lambda: len(rounds) > 2)
    monkeypatch.undo()
    wait_for(reaper.ledger_answers)
    assert "the reaper met an unexpected ZeroDivisionError" in caplog.text


def test_it_ends_when_it_is_stopped(reaper: Reaper) -> None:
    reaper.start()
    wait_for(reaper.ledger_answers)
    reaper.stop()
    reaper._thread.join(30)
    assert not reaper._thread.is_alive()
