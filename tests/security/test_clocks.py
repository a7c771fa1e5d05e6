"""Redis' clock jumps forward and back: nothing freezes for the length of the jump, and no mission expires early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.store.changes import Admission, Commit, Release
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import Key
from tests.conftest import wait_for
from tests.servers.clock import Clock, server_with_a_clock
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

HOUR = 3600
LEASE, WAIT = 0.5, 1.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Clock]]:
    with server_with_a_clock(tmp_path_factory.mktemp("clock")) as (server, clock):
        yield server.url, clock


@pytest.fixture
def clock(served: tuple[str, Clock]) -> Clock:
    served[1].is_ahead_by(0)
    return served[1]


@pytest.fixture
def settings(served: tuple[str, Clock], clock: Clock) -> WorkerSettings:
    return WorkerSettings.from_env(redis_url=served[0], quota="1/second")


@pytest.fixture
def client(settings: WorkerSettings) -> Iterator[redis.Redis]:
    with connect(settings) as client:
        client.flushall()
        yield client


def until_found(ledger: Ledger, mission_id: str) -> None:
    """Run a reaper until it would publish a mission: well within a minute, although the clock jumped an hour."""

    def found() -> bool:
        ledger.mend(2 * LEASE, WAIT)
        return mission_id in (*ledger.reap(5, 2).again, *ledger.take_due(10)[0])

    wait_for(found, what="the reaper to find it")


def admitted(ledger: Ledger, lifetime: float = 60) -> str:
    mission_id = new_mission_id()
    (answer,) = ledger.admit([Admission(mission_id, b"u", lifetime)], mission_id)
    assert answer.state == State.QUEUED
    return mission_id


def test_the_clock_can_be_faked(client: redis.Redis, clock: Clock) -> None:
    clock.is_ahead_by(HOUR)
    assert abs(client.time()[0] - time.time() - HOUR) < 5
    clock.is_ahead_by(-HOUR)
    assert abs(client.time()[0] - time.time() + HOUR) < 5


def test_a_lease_that_was_given_ahead_is_not_frozen(ledger: Ledger, clock: Clock) -> None:
    mission_id = admitted(ledger)
    clock.is_ahead_by(HOUR)
    assert ledger.claim(1, LEASE).claims
    clock.is_ahead_by(0)
    until_found(ledger, mission_id)
    assert ledger.claim(1, LEASE).claims


@pytest.mark.parametrize("host", ["", "a" * 32])
def test_a_retry_that_was_waits_for_ahead_is_not_frozen(ledger: Ledger, clock: Clock, host: str) -> None:
    mission_id = admitted(ledger)
    clock.is_ahead_by(HOUR)
    (claim,) = ledger.claim(1, LEASE).claims
    ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, WAIT, host=host)], 5)
    clock.is_ahead_by(0)
    until_found(ledger, mission_id)


def test_a_reapers_turn_that_began_ahead_ends(ledger: Ledger, clock: Clock) -> None:
    clock.is_ahead_by(HOUR)
    ledger.reap(5, 2)
    clock.is_ahead_by(0)
    mission_id = admitted(ledger)
    assert ledger.claim(1, LEASE).claims
    until_found(ledger, mission_id)


def test_a_mission_that_came_ahead_is_found_by_who_has_no_message(ledger: Ledger, clock: Clock) -> None:
    clock.is_ahead_by(HOUR)
    mission_id = admitted(ledger)
    clock.is_ahead_by(0)
    assert [claim.id for claim in ledger.claim(1, LEASE, waited_seconds=0.2).claims] == [mission_id]


def test_a_submitters_quota_that_was_counted_ahead_comes_back(ledger: Ledger, clock: Clock) -> None:
    def admit() -> Any:
        return ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")[0].refusal

    clock.is_ahead_by(HOUR)
    assert admit() is None
    clock.is_ahead_by(0)
    wait_for(lambda: admit() is None, what="the quota")


@pytest.mark.parametrize("begin", ["queued", "retrying"])
def test_no_mission_expires_while_the_clock_is_ahead(ledger: Ledger, clock: Clock, begin: str) -> None:
    mission_id = admitted(ledger)
    if begin == "retrying":
        (claim,) = ledger.claim(1, LEASE).claims
        ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, WAIT)], 5)
    clock.is_ahead_by(HOUR)
    until_found_or_queued: Callable[[], object] = lambda: ledger.take_due(10)[0] or begin == "queued"  # noqa: E731
    wait_for(until_found_or_queued, what="a round")
    (claim,) = ledger.claim(1, LEASE).claims
    left = (claim.expires_at_ms - claim.now_ms) / 1000
    assert 0 < left <= 60
    clock.is_ahead_by(0)
    assert ledger.commit([Commit(mission_id, claim.token, State.SUCCEEDED, secrets=0)], 60)[0]
    assert ledger.status(mission_id).state is State.SUCCEEDED


def test_a_mission_that_is_too_old_by_both_clocks_expires(ledger: Ledger, clock: Clock) -> None:
    mission_id = admitted(ledger, lifetime=0.2)
    wait_for(lambda: (mission_id, Reason.EXPIRED) in ledger.reap(5, 2).dead, what="the end")


def test_tokens_only_rise(ledger: Ledger, clock: Clock) -> None:
    tokens = []
    for ahead in (0, HOUR, 0, -HOUR, 0):
        clock.is_ahead_by(ahead)
        admitted(ledger, lifetime=4 * HOUR)
        tokens.append(ledger.claim(1, LEASE).claims[0].token)
        ledger.mend(2 * LEASE, WAIT)
    assert tokens == sorted(set(tokens))


def test_nothing_is_waits_for_by_a_clock_that_is_right(ledger: Ledger, client: redis.Redis) -> None:
    admitted(ledger)
    ledger.claim(1, 2 * LEASE)
    before = client.zrange(Key.LEASES, 0, -1, withscores=True)
    assert ledger.mend(2 * LEASE, WAIT) == []
    assert client.zrange(Key.LEASES, 0, -1, withscores=True) == before
