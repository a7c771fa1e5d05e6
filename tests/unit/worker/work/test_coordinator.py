"""A message's missions: claimed as slots come free, processed in parallel, settled, also through Redis outages."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from mission.errors import LedgerUnavailable
from mission.model import Claim, Priority, Reason, State
from mission.store.changes import Claimed, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, entry_key
from tests.conftest import wait_for
from tests.unit.worker.parts import Keys, Scripted, coordinator_of, deaths, ended, states, succeeded, timed_out
from worker.observe import metrics
from worker.settings import WorkerSettings
from worker.work import coordinator as module
from worker.work.endings import Outcome

AWAY = LedgerUnavailable("store_unavailable: away")


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SETTLE_SECONDS", 0.01)
    # Missions wait for their messages here: see "Without a message".
    monkeypatch.setattr(module, "WAITED_SECONDS", 1e6)


def failing(method: Callable[..., Any], times: int, error: Exception = AWAY) -> Callable[..., Any]:
    """The method, after it has failed `times` times. Looks without a message do not count."""
    left = iter(range(times))

    def call(*args: Any, **options: Any) -> Any:
        if not (options.get("waited_seconds") or options.get("only")) and next(left, None) is not None:
            raise error
        return method(*args, **options)

    return call


# Messages


def test_a_lone_mission_is_worked_and_committed(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    ids, before = keys.admit(), ended(State.SUCCEEDED)
    coordinator_of(ledger, settings, Scripted()).work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}
    assert ended(State.SUCCEEDED) == before + 1


def test_a_message_of_more_missions_than_slots_is_worked_through(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 7)
    scripted = Scripted()
    coordinator_of(ledger, settings, scripted, concurrency=2).work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}
    assert sorted(claim.id for claim in scripted.seen) == sorted(ids)
    assert scripted.most_side_by_side <= 2


def test_the_missions_of_a_message_are_worked_side_by_side(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    together = threading.Barrier(4, timeout=30)

    def outcome(claim: Claim) -> Outcome:
        together.wait()
        return succeeded(claim)

    ids = keys.admit(*["https://docs.example/"] * 4)
    coordinator_of(ledger, settings, Scripted(outcome)).work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_a_slow_mission_keeps_no_other_from_a_slot_that_comes_free(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 5)
    others_done = threading.Event()

    def outcome(claim: Claim) -> Outcome:
        if claim.id == ids[0]:
            assert others_done.wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(outcome), concurrency=2)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, len(ids))
        wait_for(lambda: states(ledger, ids[1:]) == {State.SUCCEEDED}, what="the others")
        others_done.set()
        working.result(30)
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_a_slot_that_another_message_gives_back_is_taken_while_a_mission_is_slow(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    other, slow, waiting = keys.admit(*["https://docs.example/"] * 3)
    may_end = {other: threading.Event(), slow: threading.Event()}

    def outcome(claim: Claim) -> Outcome:
        assert claim.id == waiting or may_end[claim.id].wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(outcome), concurrency=2)
    with ThreadPoolExecutor(2) as threads:
        working = [threads.submit(coordinator.work, 1)]
        wait_for(lambda: ledger.status(other).state is State.RUNNING)
        working.append(threads.submit(coordinator.work, 2))
        wait_for(lambda: ledger.status(slow).state is State.RUNNING)
        may_end[other].set()
        try:
            wait_for(lambda: ledger.status(waiting).state is State.SUCCEEDED, seconds=20, what="the one that waits")
        finally:
            may_end[slow].set()
        for future in working:
            future.result(30)


def test_what_ends_early_is_settled_while_a_mission_is_slow(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    early, slow = keys.admit(*["https://docs.example/"] * 2)
    may_end = {early: threading.Event(), slow: threading.Event()}

    def outcome(claim: Claim) -> Outcome:
        assert may_end[claim.id].wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(outcome), concurrency=2)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, 2)
        wait_for(lambda: states(ledger, [early, slow]) == {State.RUNNING})
        may_end[early].set()
        try:
            wait_for(lambda: ledger.status(early).state is State.SUCCEEDED, seconds=20, what="the early one")
        finally:
            may_end[slow].set()
        working.result(30)


def test_a_fast_worker_claims_ahead_no_more_than_it_has_slots(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AHEAD_SECONDS", 60.0)  # fast enough, however busy the machine
    ids = keys.admit(*["https://docs.example/"] * 12)
    may_end = threading.Event()
    scripted = Scripted(lambda claim: succeeded(claim) if claim.id in ids[:4] or may_end.wait(30) else timed_out(claim))

    def running() -> int:
        return sum(ledger.status(mission_id).state is State.RUNNING for mission_id in ids)

    coordinator = coordinator_of(ledger, settings, scripted, concurrency=2)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, len(ids))
        try:
            wait_for(lambda: running() == 4, what="two in work and two ahead")
        finally:
            may_end.set()
        working.result(30)
    assert scripted.most_side_by_side <= 2
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_a_mission_that_comes_again_while_its_first_attempt_is_still_here_ends_once(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, client: redis.Redis
) -> None:
    (mission_id,) = keys.admit()
    first_may_end = threading.Event()

    def outcome(claim: Claim) -> Outcome:
        assert claim.lost_leases == 1 or first_may_end.wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(outcome))
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(coordinator.work, 1)
        wait_for(lambda: ledger.status(mission_id).state is State.RUNNING)
        client.zadd(PREFIX + "leases", {mission_id: 1})
        ledger.reap(5, 2)
        coordinator.work(1)
        assert coordinator.oldest_seconds() > 0  # the first attempt is still in flight
        first_may_end.set()
        first.result(30)
    assert states(ledger, [mission_id]) == {State.SUCCEEDED}
    assert (ledger.stats().succeeded, coordinator.oldest_seconds()) == (1, 0)


def test_a_message_that_comes_twice_is_worked_once(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    ids, scripted = keys.admit(), Scripted()
    coordinator = coordinator_of(ledger, settings, scripted)
    coordinator.work(len(ids))
    coordinator.work(len(ids))
    assert len(scripted.seen) == 1


def test_a_mission_is_counted_as_in_progress_while_it_is_worked(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    gauge = metrics.MISSIONS_IN_PROGRESS._value
    seen: list[float] = []

    def outcome(claim: Claim) -> Outcome:
        seen.append(gauge.get())
        return succeeded(claim)

    coordinator_of(ledger, settings, Scripted(outcome)).work(len(keys.admit()))
    assert (seen, gauge.get()) == ([1.0], 0.0)


def test_a_message_with_nothing_to_claim_gives_its_slots_back(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 2)
    coordinator = coordinator_of(ledger, settings, Scripted(), concurrency=2)
    for _ in range(3):
        coordinator.work(len(ids))
    others = keys.admit(*["https://docs.example/"] * 2)
    coordinator.work(len(others))
    assert states(ledger, [*ids, *others]) == {State.SUCCEEDED}


def test_a_release_puts_the_mission_back(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    ids = keys.admit(*["https://docs.example/"] * 2)
    coordinator_of(ledger, settings, Scripted(timed_out)).work(len(ids))
    assert states(ledger, ids) == {State.RETRYING}


def test_a_mission_that_had_expired_is_dead_counted_and_told(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids, before = keys.admit(), ended(State.DEAD, "expired")
    client.hset(entry_key(ids[0]), "expires_at", "1")
    went = coordinator_of(ledger, settings, scripted := Scripted()).work(len(ids))
    assert (states(ledger, ids), scripted.seen, went) == ({State.DEAD}, [], Counter({State.DEAD: 1}))
    assert ended(State.DEAD, "expired") == before + 1
    assert deaths(caplog) == [(ids[0], "expired")]


def test_an_attempt_after_the_first_counts_as_a_redelivery(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    claim = keys.claim()
    ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0)], 5)
    wait_for(lambda: ledger.take_due(10)[0] == [claim.id])
    before = metrics.REDELIVERIES._value.get()
    coordinator_of(ledger, settings, Scripted()).work(1)
    assert metrics.REDELIVERIES._value.get() == before + 1


def test_an_attempt_after_a_lost_lease_counts_as_a_redelivery(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, client: redis.Redis
) -> None:
    claim = keys.claim()
    client.zadd(PREFIX + "leases", {claim.id: 1})
    assert ledger.reap(5, 2).again == [claim.id]
    before = metrics.REDELIVERIES._value.get()
    coordinator_of(ledger, settings, Scripted()).work(1)
    assert metrics.REDELIVERIES._value.get() == before + 1


def test_two_suspects_are_never_in_hand_together(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    ids = keys.admit(*["https://docs.example/"] * 2)
    for mission_id in ids:
        ledger.client.hset(entry_key(mission_id), "crashes", "2")
    coordinator = coordinator_of(ledger, settings, scripted := Scripted())
    coordinator.work(len(ids))
    assert [claim.suspect for claim in scripted.seen] == [True]
    assert states(ledger, ids) == {State.SUCCEEDED, State.RETRYING}
    wait_for(lambda: ledger.take_due(10)[0], what="the other suspect's time")
    coordinator.work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_while_a_suspect_is_in_hand_a_later_claim_takes_no_other(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    first, second = keys.admit(*["https://docs.example/"] * 2)
    for mission_id in (first, second):
        ledger.client.hset(entry_key(mission_id), "crashes", "2")
    may_end = threading.Event()

    def outcome(claim: Claim) -> Outcome:
        assert claim.id != first or may_end.wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, scripted := Scripted(outcome))
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, 1)
        wait_for(lambda: State.RUNNING in states(ledger, [first, second]), what="the first suspect")
        try:
            coordinator.work(1)
        finally:
            may_end.set()
        working.result(30)
    assert [claim.id for claim in scripted.seen] == [first]
    assert states(ledger, [second]) == {State.RETRYING}


# Turns


def test_a_message_wakes_the_worker_for_so_many_missions_whose_turn_it_is(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    bulk = keys.admit(*["https://docs.example/"] * 4)
    (urgent,) = keys.admit(priority=Priority.HIGH)
    went = coordinator_of(ledger, settings, scripted := Scripted(), concurrency=1).work(2)
    assert [claim.id for claim in scripted.seen] == [urgent, bulk[0]]
    assert went == Counter({State.SUCCEEDED: 2})
    assert states(ledger, bulk[1:]) == {State.QUEUED}


def test_what_is_urgent_is_worked_beside_slots_that_are_taken(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    slow, waiting = keys.admit(*["https://docs.example/"] * 2)
    may_end = {slow: threading.Event()}

    def outcome(claim: Claim) -> Outcome:
        assert claim.id not in may_end or may_end[claim.id].wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, scripted := Scripted(outcome), concurrency=1)
    with ThreadPoolExecutor(2) as threads:
        working = [threads.submit(coordinator.work, 2)]
        wait_for(lambda: ledger.status(slow).state is State.RUNNING)
        quick, urgent, next_one = keys.admit(*["https://docs.example/"] * 3, priority=Priority.HIGH)
        may_end |= {urgent: threading.Event(), next_one: threading.Event()}
        try:
            wait_for(
                lambda: ledger.status(urgent).state is State.RUNNING, what="the second urgent one, without a message"
            )
            assert states(ledger, [quick]) == {State.SUCCEEDED}
            assert states(ledger, [next_one, waiting]) == {State.QUEUED}
            assert coordinator.room() == 0
        finally:
            for event in may_end.values():
                event.set()
        working.append(threads.submit(coordinator.work, 3))
        for future in working:
            future.result(30)
    wait_for(lambda: states(ledger, [slow, waiting, quick, urgent, next_one]) == {State.SUCCEEDED}, what="all")
    assert scripted.most_side_by_side == 2


def test_an_urgent_mission_beside_the_slots_takes_none_of_them(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    (urgent,) = keys.admit("https://docs.example/", priority=Priority.HIGH)
    may_end = threading.Event()
    scripted = Scripted(lambda claim: succeeded(claim) if may_end.wait(30) else timed_out(claim))
    coordinator = coordinator_of(ledger, settings, scripted, concurrency=1)
    with ThreadPoolExecutor(2) as threads:
        try:
            working = [threads.submit(coordinator.work, 1)]
            wait_for(lambda: states(ledger, [urgent]) == {State.RUNNING})
            assert coordinator.room() == 1
            (bulk,) = keys.admit("https://docs.example/")
            working.append(threads.submit(coordinator.work, 1))
            wait_for(lambda: scripted.most_side_by_side == 2, what="the slot")
            assert states(ledger, [urgent, bulk]) == {State.RUNNING}
            assert coordinator.room() == 0
        finally:
            may_end.set()
        assert [future.result(30) for future in working] == [Counter({State.SUCCEEDED: 1})] * 2


def test_a_look_for_what_is_urgent_takes_nothing_else_and_outlives_an_outage(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, looks, away = ledger.claim, list[Claimed](), iter(range(3))

    def looked(*args: Any, **options: Any) -> Any:
        if options["only"] and next(away, None) is not None:
            raise AWAY
        found = claim(*args, **options)
        if options["only"]:
            looks.append(found)
        return found

    monkeypatch.setattr(ledger, "claim", looked)
    slow, waiting = keys.admit(*["https://docs.example/"] * 2)
    may_end = threading.Event()
    scripted = Scripted(lambda claim: succeeded(claim) if may_end.wait(30) else timed_out(claim))
    coordinator = coordinator_of(ledger, settings, scripted, concurrency=1)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, 2)
        wait_for(lambda: len(looks) > 3, what="looks")
        assert states(ledger, [slow]) == {State.RUNNING}
        assert states(ledger, [waiting]) == {State.QUEUED}
        may_end.set()
        working.result(30)
    assert not any(look.claims for look in looks)


# Without a message


def test_missions_that_nobody_was_told_of_are_found_by_one_look_however_many_there_are(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(module, "WAITED_SECONDS", 0.0)
    ids = keys.admit(*["https://docs.example/"] * 9)
    coordinator_of(ledger, settings, Scripted(), concurrency=2)
    wait_for(lambda: states(ledger, ids) == {State.SUCCEEDED}, what="all of them")


def test_what_has_just_come_is_left_to_its_message(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "WAITED_SECONDS", 60.0)
    looks, claim = list[float](), ledger.claim

    def counted(*args: Any, **options: Any) -> Any:
        looks.append(options["waited_seconds"])
        return claim(*args, **options)

    monkeypatch.setattr(ledger, "claim", counted)
    ids = keys.admit()
    coordinator = coordinator_of(ledger, settings, Scripted())
    wait_for(lambda: len(looks) > 3, what="looks")
    assert set(looks) == {60.0}
    assert states(ledger, ids) == {State.QUEUED}
    assert coordinator.work(1) == Counter({State.SUCCEEDED: 1})


def test_a_look_at_a_ledger_that_is_away_is_followed_by_another(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "WAITED_SECONDS", 0.0)
    monkeypatch.setattr(ledger, "claim", failing(ledger.claim, 3))
    ids = keys.admit()
    coordinator_of(ledger, settings, Scripted())
    wait_for(lambda: states(ledger, ids) == {State.SUCCEEDED}, what="the fourth look")


def test_a_worker_without_a_free_slot_does_not_look(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "WAITED_SECONDS", 0.0)
    first, second = keys.admit(*["https://docs.example/"] * 2)
    may_end = threading.Event()
    scripted = Scripted(lambda claim: succeeded(claim) if may_end.wait(30) else timed_out(claim))
    coordinator = coordinator_of(ledger, settings, scripted, concurrency=1)
    wait_for(lambda: ledger.status(first).state is State.RUNNING)
    assert coordinator.room() == 0
    assert ledger.status(second).state is State.QUEUED
    may_end.set()
    wait_for(lambda: states(ledger, [first, second]) == {State.SUCCEEDED}, what="both")
    assert scripted.most_side_by_side == 1


# The end of the process


def test_what_is_in_hand_is_given_back_without_using_up_an_attempt(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    (mission_id,) = keys.admit()
    go_on = threading.Event()

    def outcome(claim: Claim) -> Outcome:
        assert go_on.wait(30)
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(outcome))
    assert coordinator.oldest_seconds() == 0
    assert coordinator.release_all() == 0
    coordinator = coordinator_of(ledger, settings, Scripted(outcome))
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(coordinator.work, 1)
        wait_for(lambda: coordinator.oldest_seconds() > 0)
        assert coordinator.release_all() == 1
        status = ledger.status(mission_id)
        assert (status.state, status.attempts, status.reason, status.put_off) == (
            *(State.RETRYING, 0),
            *(None, Reason.SHUTDOWN),
        )
        go_on.set()
        working.result(30)
    assert coordinator.oldest_seconds() == 0
    assert ledger.status(mission_id).state is State.RETRYING


def test_a_closed_coordinator_claims_nothing_more(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    ids = keys.admit(*["https://docs.example/"] * 3)

    def last_one(claim: Claim) -> Outcome:
        coordinator.close()
        return succeeded(claim)

    coordinator = coordinator_of(ledger, settings, Scripted(last_one), concurrency=1)
    coordinator.work(len(ids))
    assert sorted(ledger.status(mission_id).state for mission_id in ids) == [
        State.QUEUED,
        State.QUEUED,
        State.SUCCEEDED,
    ]
    coordinator.work(len(ids))
    assert ledger.stats().queued == 2


# Outages


def test_a_commit_is_sent_again_until_redis_answers(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.admit()
    monkeypatch.setattr(ledger, "commit", failing(ledger.commit, 3))
    coordinator_of(ledger, settings, Scripted()).work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_an_outage_longer_than_the_lease_leaves_the_mission_to_the_reaper(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.admit()
    monkeypatch.setattr(ledger, "commit", failing(ledger.commit, 10**9))
    coordinator = coordinator_of(ledger, settings, Scripted(), lease_seconds=0.2)
    with pytest.raises(LedgerUnavailable):
        coordinator.work(len(ids))
    assert coordinator.oldest_seconds() == 0
    monkeypatch.undo()
    wait_for(lambda: ledger.reap(5, 2).again == ids, what="the reaper")


@pytest.mark.parametrize("error", [AWAY, RuntimeError("unexpected")])
def test_a_claim_that_fails_gives_its_slots_back(
    error: Exception, ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 2)
    monkeypatch.setattr(ledger, "claim", failing(ledger.claim, 1, error))
    coordinator = coordinator_of(ledger, settings, Scripted(), concurrency=1)
    with pytest.raises(type(error)):
        coordinator.work(len(ids))
    coordinator.work(len(ids))
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_an_outage_at_a_later_claim_drops_nothing_that_is_in_hand(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 3)
    claim, calls, refused = ledger.claim, iter((1, 2)), threading.Event()

    def second_one_fails(*args: Any, **options: Any) -> Any:
        if not (options["waited_seconds"] or options["only"]) and next(calls) == 2:
            refused.set()
            raise AWAY
        return claim(*args, **options)

    def outcome(claim: Claim) -> Outcome:
        assert claim.id == ids[1] or refused.wait(30)
        return succeeded(claim)

    monkeypatch.setattr(ledger, "claim", second_one_fails)
    coordinator = coordinator_of(ledger, settings, Scripted(outcome), concurrency=2)
    with pytest.raises(LedgerUnavailable):
        coordinator.work(len(ids))
    assert coordinator.oldest_seconds() == 0
    assert [ledger.status(mission_id).state for mission_id in ids] == [State.SUCCEEDED, State.SUCCEEDED, State.QUEUED]


def test_endings_that_cannot_be_told_keep_no_other_from_being_told(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.admit(*["https://docs.example/"] * 2)
    refused, commit = threading.Event(), ledger.commit

    def without_the_first(commits: list[Commit], result_ttl: float) -> list[State | None]:
        if commits[0].id == ids[0]:
            refused.set()
            raise AWAY
        return commit(commits, result_ttl)

    def outcome(claim: Claim) -> Outcome:
        assert claim.id == ids[0] or refused.wait(30)
        return succeeded(claim)

    monkeypatch.setattr(ledger, "commit", without_the_first)
    coordinator = coordinator_of(ledger, settings, Scripted(outcome), lease_seconds=0.5)
    with pytest.raises(LedgerUnavailable):
        coordinator.work(len(ids))
    assert coordinator.oldest_seconds() == 0
    assert ledger.status(ids[1]).state is State.SUCCEEDED
