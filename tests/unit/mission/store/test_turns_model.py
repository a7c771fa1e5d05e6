"""Claims by turns against a model, with missions admitted, claimed, given back and expired in any order. Nothing is lost or
doubled, a claim is as large as possible, priorities get their shares, and waiting submitters get equally many turns.
"""

from __future__ import annotations

from collections import Counter

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mission.ids import new_mission_id
from mission.model import Claim, Priority, Reason, State
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import INDEX_OF, PREFIX, Key, entry_key

SUBMITTERS = ("a", "b", "c")
COST = {Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 8}


class Shares:
    """Each priority's share of a claim: start-time fair queueing, as in its paper."""

    def __init__(self) -> None:
        self.at = 0
        self.used = dict.fromkeys(Priority, 0)

    def of(self, count: int, waiting: dict[Priority, int]) -> Counter[Priority]:
        share = Counter[Priority]()
        if sum(some > 0 for some in waiting.values()) < 2:
            return Counter({priority: min(count, some) for priority, some in waiting.items()})
        for _ in range(min(count, sum(waiting.values()))):
            start, _, first = min(
                (max(self.at, self.used[priority]), place, priority)
                for place, priority in enumerate(Priority)
                if share[priority] < waiting[priority]
            )
            self.at, self.used[first] = start, start + COST[first]
            share[first] += 1
        return share


class TurnsModel(RuleBasedStateMachine):
    """Apps and workers in any order."""

    ledger: Ledger
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.waiting: dict[str, tuple[Priority, str]] = {}
        self.running: dict[str, tuple[Claim, Priority, str]] = {}
        self.retrying: dict[str, tuple[Priority, str]] = {}
        self.admitted = self.ended = 0
        self.shares = Shares()

    @rule(priority=st.sampled_from(Priority), submitter=st.sampled_from(SUBMITTERS), count=st.integers(1, 8))
    def admit(self, priority: Priority, submitter: str, count: int) -> None:
        admissions = [Admission(new_mission_id(), b"u", 1000) for _ in range(count)]
        for answer in self.ledger.admit(admissions, submitter, priority=priority):
            self.waiting[answer.id] = priority, submitter
        self.admitted += count

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 12))
    def claim(self, count: int) -> None:
        waits = Counter(priority for priority, _ in self.waiting.values())
        share = self.shares.of(count, {priority: waits[priority] for priority in Priority})
        found = self.ledger.claim(count, 1000)
        assert len(found.claims) == min(count, len(self.waiting)), "a claim was smaller than possible"
        for claim in found.claims:
            priority, submitter = self.waiting.pop(claim.id)
            assert (claim.priority, claim.submitter) == (priority, submitter)
            self.running[claim.id] = claim, priority, submitter
        assert Counter(claim.priority for claim in found.claims) == +share

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        claim, _, _ = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        assert self.ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0)], 60) == [State.SUCCEEDED]
        self.ended += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claim, priority, submitter = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.ledger.release([Release(claim.id, claim.token, Reason.HOST_BUSY, 0.0, uses_attempt=False)], 5)
        self.retrying[claim.id] = priority, submitter

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Let its worker die, and reap."""
        claim, priority, submitter = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.client.zadd(PREFIX + "leases", {claim.id: 1})
        self.client.delete(Key.REAPER)
        assert self.ledger.reap(5, 10**6).again == [claim.id]
        self.waiting[claim.id] = priority, submitter

    @precondition(lambda self: self.retrying)
    @rule()
    def come_due(self) -> None:
        for mission_id in self.retrying:
            self.client.zadd(PREFIX + "due", {mission_id: 1}, xx=True)
        self.client.zadd(PREFIX + "due_hosts", {"": 1})
        due, _ = self.ledger.take_due(1000)
        assert set(due) == set(self.retrying)
        self.waiting |= self.retrying
        self.retrying = {}

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def grow_too_old(self, data: st.DataObject) -> None:
        mission_id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.client.hset(entry_key(mission_id), "expires_at", 1)
        self.client.zadd(PREFIX + "expiry", {mission_id: 1})
        self.client.delete(Key.REAPER)
        assert self.ledger.reap(5, 2).dead == [(mission_id, Reason.EXPIRED)]
        del self.waiting[mission_id]
        self.ended += 1

    @invariant()
    def each_priority_has_those_that_wait_and_no_other(self) -> None:
        for priority, index in INDEX_OF.items():
            found = self.client.zrange(index, 0, -1)
            assert set(found) == {mission_id.encode() for mission_id, (of, _) in self.waiting.items() if of is priority}

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.waiting) + len(self.running) + len(self.retrying) + self.ended == self.admitted

    def teardown(self) -> None:
        """In the end, all are claimed."""
        self.retrying and self.come_due()
        while self.waiting:
            self.claim(7)


@pytest.mark.server("thousands of steps: fakeredis takes ten times as long")
def test_whatever_comes_in_whatever_order_has_its_turn_once(ledger: Ledger, client: redis.Redis) -> None:
    effort = settings(max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(type("Model", (TurnsModel,), {"ledger": ledger, "client": client}), settings=effort)


@pytest.mark.server("thousands of claims: fakeredis takes ten times as long")
def test_submitters_who_wait_all_the_time_have_as_many_turns_as_each_other(ledger: Ledger, client: redis.Redis) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        lengths=st.permutations([400, 120, 120]),
        counts=st.lists(st.integers(1, 16), min_size=5, max_size=30),
    )
    def holds(lengths: list[int], counts: list[int]) -> None:
        client.flushall()
        for submitter, length in zip(SUBMITTERS, lengths, strict=True):
            ledger.admit([Admission(new_mission_id(), b"u", 1000) for _ in range(length)], submitter)
        had = Counter(dict.fromkeys(SUBMITTERS, 0))
        for count in counts:
            if sum(had.values()) + count > 240:
                break
            had.update(claim.submitter for claim in ledger.claim(count, 1000).claims)
            # Missions claimed by age or at random leave their line only when its turn comes to them.
            assert max(had.values()) - min(had.values()) <= 3 * 16

    holds()
