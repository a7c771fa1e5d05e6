"""The limit for a submitter's stored results: where bytes are counted, what is refused, and when there is room again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.store.changes import Admission, Admitted, Commit
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key, result_key
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.settings import WorkerSettings

QUOTA = 1000
TTL = 60.0
APP = Key.STORED + "app"


@pytest.fixture
def ledger(client: redis.Redis, settings: WorkerSettings) -> Ledger:
    return Ledger(client, settings.model_copy(update={"stored_quota": QUOTA}))


def admit(ledger: Ledger, submitter: str = "app") -> Admitted:
    return ledger.admit([Admission(new_mission_id(), b"u", 1000)], submitter)[0]


def store(ledger: Ledger, size: int, *, submitter: str = "app", ttl: float = TTL) -> tuple[str, State | None]:
    """Run a mission whose record has this size; return its result's key, and its state."""
    claim = claim_these(ledger, [admit(ledger, submitter).id], 1, 60.0).claims[0]
    commit = Commit(claim.id, claim.token, State.SUCCEEDED, None, 1, b"r" * size, allowed_by="*.example.com")
    (state,) = ledger.commit([commit], ttl)
    assert ledger.commit([commit], ttl) == [state], "sent twice, it gets the same answer"
    return result_key(claim.id, claim.token), state


def bytes_of(client: redis.Redis, submitter: str = "app") -> int:
    """The sum of the counts; it must equal the stored sum."""
    held = {field: int(value) for field, value in client.hgetall(Key.STORED + submitter).items()}
    until, kept = held.pop(b"until"), held.pop(b"bytes")
    assert (until, kept) == (min(map(int, held)), sum(held.values()))
    return kept


def test_what_would_pass_the_quota_is_a_dead_letter_without_a_record(ledger: Ledger, client: redis.Redis) -> None:
    fits, state = store(ledger, QUOTA - 1)
    assert state is State.SUCCEEDED
    passes, state = store(ledger, 2)
    assert state is State.DEAD
    assert (client.exists(fits), client.exists(passes), bytes_of(client)) == (1, 0, QUOTA - 1)
    mission_id = passes.rpartition(":")[0].removeprefix(Key.RESULT)
    assert ledger.status(mission_id).reason is Reason.STORED_QUOTA_EXCEEDED
    assert client.hexists(entry_key(mission_id), "url"), "it can be replayed"
    assert client.hget(entry_key(mission_id), "allowed_by") == b"*.example.com"
    assert not client.hexists(entry_key(fits.split(":")[2]), "allowed_by"), "what is no longer needed is deleted"
    assert (ledger.stats().succeeded, ledger.stats().dead) == (1, 1)


def test_a_submitter_whose_results_fill_the_quota_is_refused_and_no_other(ledger: Ledger) -> None:
    store(ledger, QUOTA)
    refused = admit(ledger)
    assert refused.refusal is Reason.STORED_QUOTA_EXCEEDED
    assert TTL - 1 < refused.retry_after <= TTL * 33 / 32
    assert ledger.refusals() == {"stored_quota_exceeded": 1}
    assert admit(ledger, "other").refusal is None


def test_what_found_nothing_takes_nothing_and_ends_also_where_the_quota_is_full(
    ledger: Ledger, client: redis.Redis
) -> None:
    waiting = admit(ledger)
    store(ledger, QUOTA)
    (claim,) = claim_these(ledger, [waiting.id], 1, 60.0).claims
    assert ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, None)], TTL) == [State.SUCCEEDED]
    assert (bytes_of(client), client.exists(result_key(claim.id, claim.token))) == (QUOTA, 0)


def test_a_mission_that_was_admitted_before_is_a_duplicate_all_the_same(ledger: Ledger) -> None:
    admission = Admission(new_mission_id(), b"u", 1000)
    ledger.admit([admission], "app")
    store(ledger, QUOTA)
    assert ledger.admit([admission], "app")[0].duplicate


def test_there_is_room_again_when_results_are_gone(ledger: Ledger, client: redis.Redis) -> None:
    store(ledger, 400, ttl=1.0)
    store(ledger, QUOTA - 400)
    assert admit(ledger).refusal is Reason.STORED_QUOTA_EXCEEDED
    wait_for(lambda: admit(ledger).refusal is None)
    assert store(ledger, 400)[1] is State.SUCCEEDED
    assert bytes_of(client) == QUOTA, "expired counts were dropped"


def test_the_count_goes_with_the_last_result(ledger: Ledger, client: redis.Redis) -> None:
    for ttl in (600.0, 60.0):
        store(ledger, 10, ttl=ttl)
        assert 600 <= client.ttl(APP) <= 600 * 33 / 32 + 1
    assert client.hlen(APP) == 2 + len(("until", "bytes"))
    assert bytes_of(client) == 20


def test_no_more_moments_are_kept_than_the_lifetime_is_divided_into(ledger: Ledger, client: redis.Redis) -> None:
    claims = [claim_these(ledger, [admit(ledger).id], 1, 60.0).claims[0] for _ in range(20)]
    ledger.commit([Commit(one.id, one.token, State.SUCCEEDED, None, 1, b"r") for one in claims], 30 * 86400.0)
    assert client.hlen(APP) == 1 + len(("until", "bytes"))
    assert bytes_of(client) == 20


def test_without_a_quota_nothing_is_counted(client: redis.Redis, settings: WorkerSettings) -> None:
    ledger = Ledger(client, settings.model_copy(update={"stored_quota": 0}))
    assert store(ledger, 10_000)[1] is State.SUCCEEDED
    assert not client.exists(APP)


GARBAGE: dict[str, Callable[[redis.Redis], object]] = {
    "a string": lambda client: client.set(APP, "x"),
    "a list": lambda client: client.lpush(APP, "x"),
    "no numbers": lambda client: client.hset(APP, mapping={"x": "y", "": "", "1e999": "nan", "9" * 30: "-5"}),
    "numbers that cannot grow": lambda client: client.hset(APP, mapping={"nan": "1", "inf": "inf", "9" * 13: "10.5"}),
    "a sum that is not a number": lambda client: client.hset(APP, mapping={"bytes": "0x10", "until": "9" * 12}),
    "a sum that never expires": lambda client: client.hset(APP, mapping={"bytes": QUOTA, "until": "9" * 16}),
    "far more fields than any release writes": lambda client: client.hset(
        APP, mapping={str(10**12 * 2 + n): 9 for n in range(600)}
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_the_place_of_the_count_stops_nobody(
    garbage: Callable[[redis.Redis], object], ledger: Ledger, client: redis.Redis
) -> None:
    garbage(client)
    assert admit(ledger).refusal is None
    assert store(ledger, 10)[1] is State.SUCCEEDED
    assert store(ledger, QUOTA - 10)[1] is State.SUCCEEDED
    assert admit(ledger).refusal is Reason.STORED_QUOTA_EXCEEDED
    assert bytes_of(client) == QUOTA
