"""A model of the ledger's states, run against the real functions on a real server: no interleaving of admit, claim, crash,
reap, commit and release breaks «one terminal state, one result»."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mission.ids import new_mission_id
from mission.model import Claim, Priority, Reason, State
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, entry_key
from tests.claims import claim_these

MAX_ATTEMPTS = 3
SUSPECT_AFTER = 2
RULE: dict[str, Any] = {"suspect_after": SUSPECT_AFTER, "suspect_delay_seconds": 1000}
INDEXES = {
    State.QUEUED: ("queued", "queued_high", "queued_low"),
    State.RUNNING: ("leases",),
    State.RETRYING: ("due", "due:a", "due:b"),
}
HOSTS = ("", "a", "b")
LONG_AGO = 1


class LedgerModel(RuleBasedStateMachine):
    """Missions in a careless world."""

    ledger: Ledger
    client: redis.Redis
    replays = 0

    missions = Bundle("missions")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.ids: list[str] = []
        self.aged = False
        self.ended: dict[str, tuple[State | str, int]] = {}
        self.committed: dict[str, set[int]] = {}
        self.tokens: dict[str, int] = {}

    @precondition(lambda self: len(self.ids) < 3)  # few missions, so that their histories interleave
    @rule(target=missions, submitter=st.sampled_from(("app", "bulk")), priority=st.sampled_from(Priority))
    def admit(self, submitter: str, priority: Priority) -> str:
        (answer,) = self.ledger.admit([Admission(new_mission_id(), b"u", 1000)], submitter, priority=priority)
        self.ids.append(answer.id)
        return answer.id

    @rule(mission=missions)
    def admit_again(self, mission: str) -> None:
        (answer,) = self.ledger.admit([Admission(mission, b"u", 1000)], "app")
        assert answer.duplicate

    @rule(target=claims, count=st.integers(0, 4))
    def claim(self, count: int) -> object:
        return self.claimed(self.ledger.claim(count, 1000, **RULE).claims, count)

    def claimed(self, claims: list[Claim], count: int) -> object:
        assert len(claims) <= count
        for claim in claims:
            assert claim.token > self.tokens.get(claim.id, 0), "a token fell or was reused"
            self.tokens[claim.id] = claim.token
            assert claim.attempt <= MAX_ATTEMPTS
        return multiple(*claims)

    @rule(target=claims, claim=claims)
    def another_worker_takes_over(self, claim: Claim) -> object:
        """The case for fencing tokens; the first holder may still come back."""
        self.time_passes(claim.id)
        return self.claimed(claim_these(self.ledger, [claim.id], 1, 1000, **RULE).claims, 1)

    @rule(mission=missions)
    def time_passes(self, mission: str) -> None:
        """Let its lease expire or its due time come, and reap."""
        self.its_time_comes(mission)
        self.reap()

    def its_time_comes(self, mission: str) -> None:
        for index in ("leases", *INDEXES[State.RETRYING]):
            self.client.zadd(PREFIX + index, {mission: LONG_AGO}, xx=True)
        self.client.zadd(PREFIX + "due_hosts", dict.fromkeys(HOSTS, LONG_AGO), xx=True)

    @precondition(lambda self: not self.aged)  # once in a run, or few missions would reach another end
    @rule(mission=missions)
    def grows_too_old(self, mission: str) -> None:
        self.aged = True
        self.client.zadd(PREFIX + "expiry", {mission: LONG_AGO}, xx=True)
        self.client.hset(entry_key(mission), "expires_at", LONG_AGO)

    def reap(self) -> None:
        self.client.delete(PREFIX + "reaper")
        found = self.ledger.reap(MAX_ATTEMPTS, SUSPECT_AFTER)
        due, _ = self.ledger.take_due(10)
        for mission in found.again + due:
            assert self.ledger.status(mission).state is State.QUEUED

    @rule(claim=claims, state=st.sampled_from([State.SUCCEEDED, State.FAILED]))
    def commit(self, claim: Claim, state: State) -> None:
        before = self.ledger.status(claim.id)
        end = Commit(claim.id, claim.token, state, None if state is State.SUCCEEDED else Reason.TLS_FAILURE, 1, b"r")
        (done,) = self.ledger.commit([end], 60)
        if done:
            assert claim.token == self.tokens[claim.id], "a stale holder committed"
            self.committed.setdefault(claim.id, set()).add(claim.token)
        else:
            assert self.ledger.status(claim.id) == before, "a refused commit changed something"

    @rule(claim=claims, uses_attempt=st.booleans(), host=st.sampled_from(HOSTS))
    def release(self, claim: Claim, *, uses_attempt: bool, host: str) -> None:
        before = self.ledger.status(claim.id)
        release = Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0.0, uses_attempt, host)
        (after,) = self.ledger.release([release], MAX_ATTEMPTS)
        if after is None:
            assert self.ledger.status(claim.id) == before, "a refused release changed something"
        else:
            assert claim.token == self.tokens[claim.id], "a stale holder released"

    @rule(claim=consumes(claims))
    def crash(self, claim: Claim) -> None:
        """Drop a claim, as if its holder crashed."""

    @invariant()
    def each_mission_is_in_the_index_of_its_state_and_no_other(self) -> None:
        for mission in self.ids:
            state = self.ledger.status(mission).state
            found = [
                s
                for s, indexes in INDEXES.items()
                for index in indexes
                if self.client.zscore(PREFIX + index, mission) is not None
            ]
            assert found == [s for s in INDEXES if s is state]
            unfinished = self.client.zscore(PREFIX + "open", mission) is not None
            assert unfinished is not self.ledger.status(mission).finished

    @invariant()
    def a_terminal_state_stays_and_is_counted_and_told_once(self) -> None:
        for mission in self.ids:
            status = self.ledger.status(mission)
            if mission in self.ended:
                assert status.state is self.ended[mission][0]
            elif status.finished:
                self.ended[mission] = (status.state, self.tokens.get(mission, 0))
        counted = self.client.hgetall(PREFIX + "finished")
        assert sum(map(int, counted.values())) == len(self.ended) + self.replays
        entries: Any = self.client.xrange(PREFIX + "outcomes")
        told = [fields[b"id"].decode() for _, fields in entries]
        assert len(told) == len(self.ended) + self.replays
        assert set(told) >= set(self.ended)

    @invariant()
    def each_mission_has_at_most_one_committed_result(self) -> None:
        assert all(len(tokens) == 1 for tokens in self.committed.values())

    def teardown(self) -> None:
        """Whatever happened, a well-behaved world brings every mission to its end from now on."""
        for _ in range(4 * MAX_ATTEMPTS):
            for mission in self.ids:
                self.its_time_comes(mission)
            self.reap()
            for claim in self.ledger.claim(len(self.ids), 1000, suspect_after=SUSPECT_AFTER).claims:
                self.ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, b"r")], 60)
        assert all(self.ledger.status(mission).finished for mission in self.ids), "a mission was lost"


def run_model(model: type[LedgerModel], examples: int, **parts: object) -> None:
    effort = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(type("Model", (model,), parts), settings=effort)


@pytest.mark.server("thousands of steps: fakeredis takes ten times as long")
def test_no_interleaving_breaks_one_terminal_state_and_one_result(ledger: Ledger, client: redis.Redis) -> None:
    run_model(LedgerModel, 60, ledger=ledger, client=client)
