"""Calls of the last release's workers and apps keep working, with newer functions on the server and after a rollback.

They claim the missions that a message names, and their reaper publishes missions again whose message was lost. The next release
removes all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from mission.errors import LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Priority
from mission.store import scripts
from mission.store.changes import Admission
from mission.store.ledger import REAP_LIMIT, Ledger
from mission.store.messages import wake_ups
from mission.store.names import QUEUE, QUEUE_OF, Key, entry_key
from mission.store.scripts import Scripts, as_text
from worker.settings import WorkerSettings


class Last:
    """The last release's calls, as in its `mission.store.ledger`."""

    def __init__(self, client: redis.Redis, settings: WorkerSettings) -> None:
        self.client = client
        self.scripts = Scripts(client, settings)
        self.grace = -1000
        self.limit = REAP_LIMIT

    def admit(self, count: int) -> list[str]:
        ids = [new_mission_id() for _ in range(count)]
        messages = wake_ups(ids)
        missions = [value for id_ in ids for value in (id_, "sealed url", 100_000, "")]
        limits = (10_000, 0, 0, 0, 16, "", 60)
        answers = self.scripts.run(
            "admit", scripts.WRITES, "app", *limits, len(messages), *messages, *missions, replicated=True
        )
        assert answers == []
        return ids

    def claim(self, ids: Sequence[str], count: int, lease_ms: int = 60_000) -> tuple[list[str], list[str]]:
        """The claimed ids, and the held ids."""
        now = 10**12
        _, claims, held, expired, unreadable = self.scripts.run(
            "claim", *scripts.READS, count, lease_ms, 60, 1, 2, 2000, now, *ids
        )
        assert expired == unreadable == []
        for id_, token, attempt, submitter, url, submitted, expires, lost in claims:
            assert (int(attempt), submitter, url, lost) == (1, b"app", b"sealed url", 0)
            assert int(token) > 0 < int(submitted) < int(expires)
            assert as_text(id_) in ids
        return [as_text(claim[0]) for claim in claims], list(map(as_text, held))

    def reap(self) -> list[str]:
        """The ids that it publishes again, since their messages were lost."""
        self.client.delete(Key.REAPER)
        idle = int(not self.client.llen(QUEUE))
        answer: Any = self.scripts.run("reap", idle, self.grace, self.limit, 5, 60, 900, 10**13, 2)
        alone, batch, dead, leases, lost = answer
        assert (alone, dead, leases, lost) == ([], [], 0, len(batch))
        return list(map(as_text, batch))


@pytest.fixture
def last(client: redis.Redis, settings: WorkerSettings) -> Last:
    return Last(client, settings)


def held(last: Last, ids: Sequence[str]) -> list[str]:
    """The ids that a worker without a free slot holds."""
    return last.claim(ids, 0)[1]


def test_what_a_message_names_is_claimed_and_what_is_too_much_is_held(last: Last) -> None:
    ids = last.admit(5)
    assert last.client.llen(QUEUE) == 1
    assert last.claim(ids[1:4], 2) == (ids[1:3], ids[3:4])
    assert last.claim(ids, 9) == ([ids[0], *ids[3:]], [])


def test_its_missions_are_claimed_by_turns_and_those_of_this_release_by_name(last: Last, ledger: Ledger) -> None:
    (theirs,) = last.admit(1)
    ours = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"sealed url", 100)], "app")]
    assert [claim.id for claim in ledger.claim(1, 60).claims] == [theirs]
    assert last.claim(ours, 1) == (ours, [])
    assert ledger.stats().running == 2


@pytest.mark.parametrize("priority", Priority)
def test_after_a_rollback_it_finds_what_waits_in_a_queue_that_it_does_not_know(
    last: Last, ledger: Ledger, priority: Priority
) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"sealed url", 100)], "app", priority=priority)
    last.client.delete(QUEUE_OF[priority])
    if priority is not Priority.NORMAL:
        last.client.lpush(QUEUE, "a message that waits")
    assert (last.reap(), last.reap()) == ([], [answer.id])
    assert last.claim([answer.id], 1) == ([answer.id], [])
    assert ledger.stats().queued == 0
    assert ledger.status(answer.id).priority is priority


def test_its_stats_have_no_more_numbers_than_it_knows(last: Last, ledger: Ledger) -> None:
    last.admit(2)
    ledger.admit([Admission(new_mission_id(), b"u", 100)], "app", priority=Priority.HIGH)
    now, queued, *counts, oldest = last.scripts.run("stats")
    assert (queued, len(counts)) == (3, 6)
    assert 0 < oldest <= now


def test_an_app_of_this_release_reads_the_stats_of_its_functions(
    last: Last, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    last.admit(2)
    monkeypatch.setattr(ledger, "_scripts", SimpleNamespace(run=lambda name, *_: last.scripts.run(name)))
    stats = ledger.stats()
    assert (stats.queued, stats.queued_normal, stats.queued_high, stats.queued_low) == (2, 2, 0, 0)


def test_it_takes_more_messages_of_the_one_queue_that_it_knows(last: Last) -> None:
    last.client.lpush(QUEUE_OF[Priority.HIGH], "wake")
    last.client.lpush(QUEUE, "wake")
    assert last.scripts.run("take", 10, "wake", 1000) == [b"wake"]
    assert last.client.llen(QUEUE_OF[Priority.HIGH]) == 1


def test_a_message_lost_from_an_empty_queue_is_published_again(last: Last) -> None:
    ids = last.admit(3)
    last.client.delete(QUEUE)
    assert (last.reap(), sorted(last.reap())) == ([], sorted(ids))


def test_a_long_backlog_multiplies_no_message(last: Last) -> None:
    last.admit(50)
    assert [last.reap() for _ in range(2)] == [[], []]


def test_a_message_that_the_queue_has_moved_past_is_published_again(last: Last) -> None:
    ids = last.admit(4)
    last.claim([ids[2]], 1)
    assert (last.reap(), sorted(last.reap())) == ([], sorted(ids[:2]))


def test_an_older_message_for_a_mission_published_again_does_not_make_the_backlog_look_lost(last: Last) -> None:
    """A worker holds the first mission, is considered dead, and then claims it; the queue has not advanced."""
    (first,) = last.admit(1)
    last.client.delete(QUEUE)
    assert (last.reap(), last.reap()) == ([], [first])
    last.admit(50)
    last.client.zadd(Key.QUEUED, {first: 100})  # published again behind the backlog
    assert last.claim([first], 1) == ([first], [])
    assert [last.reap() for _ in range(2)] == [[], []]


def test_a_message_is_not_lost_within_the_grace_period_since_the_queue_moved_past_it(last: Last) -> None:
    """However long it waited before, a worker may just be about to claim it."""
    last.grace = 15_000
    ids = last.admit(3)
    last.client.delete(QUEUE)
    assert [last.reap() for _ in range(3)] == [[], [], []]
    last.client.hset(entry_key(ids[1]), "missed_at", "1")
    # once published again, its period starts again
    assert [last.reap() for _ in range(3)] == [[ids[1]], [], []]


def test_a_message_that_a_worker_holds_is_not_missed_any_more(last: Last) -> None:
    ids = last.admit(3)
    last.client.delete(QUEUE)
    for _ in range(3):
        assert held(last, ids) == ids
        assert last.reap() == []


def test_a_lost_message_is_found_behind_any_number_of_those_that_workers_hold(last: Last) -> None:
    last.limit = 2
    *others, lost = last.admit(6)
    last.client.delete(QUEUE)
    found = []
    for _ in range(8):  # two looks at all six, two at a time
        held(last, others)
        found += last.reap()
    assert lost in found


def test_a_claim_of_more_than_a_worker_asks_for_is_refused(last: Last) -> None:
    with pytest.raises(LedgerUnavailable, match="claim takes 1024 ids at most"):
        last.claim([new_mission_id()] * 1025, 1)
