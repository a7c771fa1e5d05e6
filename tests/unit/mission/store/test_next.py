"""Turns between priorities and between their submitters, also with overwritten indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from mission.errors import LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Claim, Priority, Reason, State
from mission.store.changes import Admission, Claimed, Release
from mission.store.ledger import Ledger
from mission.store.names import INDEX_OF, QUEUE_OF, Key, entry_key
from mission.store.scripts import Scripts
from tests.conftest import wait_for
from worker.settings import WorkerSettings

HIGH, NORMAL, LOW = Priority
RING, LINE = Key.RING + NORMAL, Key.LINE + NORMAL + ":"
# One of 32 claims is random, and every eighth of the others goes by age.
LOTS = 32


def admit(
    ledger: Ledger, count: int, submitter: str = "app", priority: Priority = NORMAL, lifetime: float = 1000.0
) -> list[str]:
    admissions = [Admission(new_mission_id(), b"sealed url", lifetime) for _ in range(count)]
    answers = [
        answer
        for start in range(0, count, 500)
        for answer in ledger.admit(admissions[start : start + 500], submitter, priority=priority)
    ]
    return [answer.id for answer in answers if answer.refusal is None]


def claims(ledger: Ledger, count: int, each: int = 1) -> list[Claim]:
    """Claim this many, in calls for `each`."""
    found: list[Claim] = []
    while len(found) < count:
        found += ledger.claim(min(each, count - len(found)), 60).claims
    return found


def of_submitters(found: Sequence[Claim]) -> Counter[str]:
    return Counter(claim.submitter for claim in found)


def of_priorities(found: Sequence[Claim]) -> list[int]:
    counts = Counter(claim.priority for claim in found)
    return [counts[priority] for priority in Priority]


def before_turn(client: redis.Redis, turn: int) -> None:
    """Set the turn that the next claim takes."""
    client.hset(Key.TURNS, "turn", turn - 1)


# Submitters


def test_missions_of_one_submitter_come_in_their_order(ledger: Ledger) -> None:
    ids = admit(ledger, 25)
    assert [claim.id for claim in claims(ledger, 25, each=4)] == ids


@pytest.mark.parametrize("each", [1, 3, 16])
def test_a_submitter_with_very_many_does_not_stand_before_another(ledger: Ledger, each: int) -> None:
    admit(ledger, 2000, "bulk")
    few = admit(ledger, 100, "app")
    found = claims(ledger, 240, each)
    assert sum(claim.id in few for claim in found) == len(few), of_submitters(found)


def test_three_submitters_have_equal_turns_but_for_the_eighth_that_goes_by_age(ledger: Ledger) -> None:
    for submitter, count in (("a", 900), ("b", 300), ("c", 300)):
        admit(ledger, count, submitter)
    found = of_submitters(claims(ledger, 300, each=7))
    assert abs(found["b"] - found["c"]) <= 14, found
    assert found["a"] <= 300 * (7 / 8 / 3 + 1 / 8) + 14, found


def test_a_submitter_who_comes_last_waits_for_one_turn_of_the_others(ledger: Ledger) -> None:
    for number in range(5):
        admit(ledger, 100, f"s{number}")
    claims(ledger, 40)
    admit(ledger, 1, "late")
    assert "late" in of_submitters(claims(ledger, 7))


def test_what_expired_in_its_line_takes_nobodys_turn_along(ledger: Ledger) -> None:
    """If admission assigned turns, a submitter whose line outlasts its missions' lifetime would get no turn at all."""
    admit(ledger, 300, "slow", lifetime=0.0)
    admit(ledger, 50, "slow")
    admit(ledger, 1000, "app")
    found = of_submitters(claims(ledger, 60, each=4))
    assert 20 <= found["slow"] <= 40, found


def test_a_mission_that_is_tried_again_stands_in_its_own_submitters_line(ledger: Ledger) -> None:
    first, *_ = admit(ledger, 20, "bulk")  # few enough that no call is random
    (claim,) = ledger.claim(1, 60).claims
    ledger.release([Release(first, claim.token, Reason.READ_TIMEOUT, 0.0)], 5)
    wait_for(lambda: ledger.take_due(10)[0] == [first], what="its time")
    (alone,) = admit(ledger, 1, "app")
    found = [claim.id for claim in claims(ledger, 21)]
    assert found.index(alone) <= 2
    assert found.index(first) >= 19


def test_what_waits_in_no_line_is_claimed_by_its_age(ledger: Ledger, client: redis.Redis) -> None:
    """The last release, a repair or a deleted line may cause this."""
    ids = admit(ledger, 20)
    client.delete(LINE + "app", RING)
    assert [claim.id for claim in claims(ledger, 20, each=3)] == ids


def test_beside_lines_that_are_full_it_waits_eight_times_as_long_as_by_age_at_most(
    ledger: Ledger, client: redis.Redis
) -> None:
    (alone,) = admit(ledger, 1, "forgotten")
    client.delete(LINE + "forgotten")
    client.zrem(RING, "forgotten")
    admit(ledger, 100, "bulk")
    assert alone in [claim.id for claim in claims(ledger, 16)]


def test_a_line_that_nobody_waits_in_any_more_is_no_key(ledger: Ledger, client: redis.Redis) -> None:
    admit(ledger, 10, "a")
    admit(ledger, 10, "b", HIGH)
    claims(ledger, 20, each=3)
    ledger.reap(5, 2)
    assert list(client.scan_iter(Key.LINE + "*")) == list(client.scan_iter(Key.RING + "*")) == []


def test_of_what_left_its_line_otherwise_no_key_stays_when_nobody_waits(ledger: Ledger, client: redis.Redis) -> None:
    admit(ledger, 10, "a", lifetime=0.0)
    admit(ledger, 10, "b", HIGH, lifetime=0.0)
    assert len(ledger.reap(5, 2).dead) == 20
    assert list(client.scan_iter(Key.LINE + "*")) == list(client.scan_iter(Key.RING + "*")) == []


# Priorities


def test_eight_to_four_to_one_while_all_wait(ledger: Ledger) -> None:
    for priority in Priority:
        admit(ledger, 200, priority=priority)
    assert of_priorities(claims(ledger, 130, each=5)) == [80, 40, 10]


@pytest.mark.parametrize(
    ("waiting", "share"), [((HIGH, LOW), [80, 0, 10]), ((HIGH, NORMAL), [60, 30, 0]), ((NORMAL, LOW), [0, 40, 10])]
)
def test_what_does_not_wait_leaves_its_share_to_the_others(
    waiting: Sequence[Priority], share: list[int], ledger: Ledger
) -> None:
    for priority in waiting:
        admit(ledger, 200, priority=priority)
    assert of_priorities(claims(ledger, sum(share), each=4)) == share


def test_what_did_not_wait_gets_no_credit_for_that_time(ledger: Ledger) -> None:
    admit(ledger, 600, priority=HIGH)
    admit(ledger, 600, priority=NORMAL)
    claims(ledger, 600, each=10)
    admit(ledger, 100, priority=LOW)
    assert of_priorities(claims(ledger, 130, each=10))[2] in (10, 11)


def test_an_urgent_mission_comes_before_all_that_wait(ledger: Ledger) -> None:
    admit(ledger, 500, "bulk", LOW)
    claims(ledger, 50)
    admit(ledger, 500, "app")
    (urgent,) = admit(ledger, 1, "app", HIGH)
    assert [claim.id for claim in claims(ledger, 1)] == [urgent]
    found = ledger.claim(5, 60).claims
    assert of_priorities(found) == [0, 4, 1]


def test_a_claim_and_the_status_tell_the_priority(ledger: Ledger) -> None:
    for priority in Priority:
        (mission_id,) = admit(ledger, 1, priority=priority)
        assert ledger.status(mission_id).priority is priority
    assert [claim.priority for claim in claims(ledger, 3, each=3)] == list(Priority)


def test_a_mission_keeps_its_priority_when_it_is_tried_again_and_under_its_key(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger, 1, priority=LOW)
    (claim,) = claims(ledger, 1)
    ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, 0.0)], 5)
    wait_for(lambda: ledger.take_due(10)[0], what="its time")
    assert ledger.stats().queued_low == 1
    (again,) = ledger.admit([Admission(mission_id, b"u", 100)], "app", priority=HIGH)
    assert (again.duplicate, again.priority) == (True, LOW)
    assert [claim.priority for claim in claims(ledger, 1)] == [LOW]


def test_each_priority_has_a_queue_of_messages(ledger: Ledger, client: redis.Redis) -> None:
    for priority, count in zip(Priority, (1, 17, 33), strict=True):
        admit(ledger, count, priority=priority)
    assert [client.llen(QUEUE_OF[priority]) for priority in Priority] == [1, 2, 3]
    assert ledger.waiting() == 6
    stats = ledger.stats()
    assert (stats.queued, stats.queued_high, stats.queued_normal, stats.queued_low) == (51, 1, 17, 33)


def test_a_mission_is_woken_for_in_the_queue_of_its_priority(ledger: Ledger, client: redis.Redis) -> None:
    ids = [admit(ledger, 1, priority=priority)[0] for priority in Priority]
    client.delete(*QUEUE_OF.values())
    ledger.wake(ids)
    assert [client.llen(queue) for queue in QUEUE_OF.values()] == [1, 1, 1]


@pytest.mark.parametrize("priority", ["urgent", "", "HIGH", "x" * 100])
def test_a_priority_that_is_none_is_refused_before_anything_is_written(
    priority: str, client: redis.Redis, settings: WorkerSettings
) -> None:
    mission = (new_mission_id(), "u", 1000, "")
    with pytest.raises(LedgerUnavailable, match="admit takes no such priority"):
        Scripts(client, settings).run("admit", 1, "app", 10, 0, 0, 0, 16, "", 60, 0, *mission, priority)
    assert client.keys() == []


def test_how_long_the_first_of_each_priority_has_waited(ledger: Ledger, client: redis.Redis) -> None:
    assert set(ledger.waits().values()) == {0.0}
    old, _ = admit(ledger, 2, priority=HIGH)
    admit(ledger, 1, priority=LOW)
    client.hincrby(entry_key(old), "submitted_at", -90_000)
    waits = ledger.waits()
    assert 90 <= waits[HIGH] < 100
    assert waits[NORMAL] == 0.0
    assert 0 <= waits[LOW] < 10


# Without a message


def test_who_has_no_message_takes_nothing_that_has_just_come(ledger: Ledger, client: redis.Redis) -> None:
    mission_id, _ = admit(ledger, 2, priority=LOW)
    assert ledger.claim(2, 60, waited_seconds=5).claims == []
    client.hincrby(entry_key(mission_id), "submitted_at", -6000)
    assert len(ledger.claim(2, 60, waited_seconds=5).claims) == 2


def test_a_claim_of_one_priority_takes_no_other_and_counts_as_its_turns(ledger: Ledger) -> None:
    admit(ledger, 40, priority=LOW)
    assert ledger.claim(4, 60, only=HIGH) == Claimed([], [], [], more=False)
    admit(ledger, 40)
    admit(ledger, 40, priority=HIGH)
    assert of_priorities(ledger.claim(4, 60, only=HIGH).claims) == [4, 0, 0]
    high, normal, low = of_priorities(claims(ledger, 13))
    assert high <= 7, (high, normal, low)
    assert normal >= 5, (high, normal, low)


def test_a_claim_of_one_priority_owes_nothing_where_no_other_waits(ledger: Ledger) -> None:
    admit(ledger, 60, priority=HIGH)
    claims_of_one = ledger.claim(40, 60, only=HIGH).claims
    assert len(claims_of_one) == 40
    admit(ledger, 40, priority=LOW)
    assert of_priorities(claims(ledger, 9)) == [8, 0, 1]


# Overwritten data


def garbage(key: str) -> dict[str, Callable[[redis.Redis], Any]]:
    return {
        "a string": lambda client: client.set(key, "x"),
        "a list": lambda client: client.rpush(key, "x", b"\xff" * 1000, new_mission_id()),
        "a set": lambda client: client.sadd(key, "x"),
        "a hash": lambda client: client.hset(key, "x", "y"),
        "a sorted set": lambda client: client.zadd(key, {"x": float("-inf"), b"\xff": 0, "z" * 1000: float("inf")}),
    }


@pytest.mark.parametrize("key", [LINE + "app", RING])
@pytest.mark.parametrize("what", garbage(""))
def test_what_stands_in_the_place_of_a_line_or_a_ring_stops_no_claim(
    key: str, what: str, ledger: Ledger, client: redis.Redis
) -> None:
    before = admit(ledger, 10)
    client.delete(key)
    garbage(key)[what](client)
    after = admit(ledger, 10)
    found = [claim.id for _ in range(30) for claim in ledger.claim(1, 60).claims]
    assert sorted(found) == sorted(before + after)


@pytest.mark.parametrize("fields", [{"turn": "x"}, {"turn": "1.5"}, {"at": "x"}, {"high": "nan", "low": "-1"}])
def test_a_count_of_turns_that_is_none_stops_nothing_for_longer_than_a_round(
    fields: dict[str, str], ledger: Ledger, client: redis.Redis
) -> None:
    client.hset(Key.TURNS, items=[text for pair in fields.items() for text in pair])
    for priority in Priority:
        admit(ledger, 2, priority=priority)
    ledger.mend(120, 3600)
    assert len(ledger.claim(6, 60).claims) == 6


def test_turns_that_were_lost_begin_again_where_they_were(ledger: Ledger, client: redis.Redis) -> None:
    for submitter in ("a", "b"):
        admit(ledger, 100, submitter)
    claims(ledger, 20)
    client.delete(Key.TURNS)
    ledger.mend(120, 3600)
    found = of_submitters(claims(ledger, 40))
    assert abs(found["a"] - found["b"]) <= 6, found


def test_who_was_put_at_the_end_of_the_ring_by_force_has_a_turn_after_the_next_round(
    ledger: Ledger, client: redis.Redis
) -> None:
    for submitter in ("bulk", "app"):
        admit(ledger, 200, submitter)
    claims(ledger, 10)
    client.zadd(RING, {"app": 1e300})
    ledger.mend(120, 3600)
    assert of_submitters(claims(ledger, 12))["app"] >= 4


def test_by_lot_each_mission_comes_up_whatever_order_somebody_wrote(ledger: Ledger, client: redis.Redis) -> None:
    def comes_up() -> bool:
        client.flushdb()
        (honest,) = admit(ledger, 1, "honest")
        for mission_id in admit(ledger, 20, "thief"):
            client.zadd(Key.QUEUED, {mission_id: -1})
        client.zadd(Key.QUEUED, {honest: 1e12})
        client.zadd(RING, {"honest": 1e12, "thief": -1})
        before_turn(client, LOTS)
        return honest in [claim.id for claim in ledger.claim(10, 60).claims]

    assert any(comes_up() for _ in range(40))


def test_garbage_before_all_missions_is_cleared_away_and_more_is_said_to_wait(
    ledger: Ledger, client: redis.Redis
) -> None:
    (mission_id,) = admit(ledger, 1)
    for start in range(0, 1000, 500):
        client.zadd(Key.QUEUED, {f"{number}": -1 for number in range(start, start + 500)})
    client.delete(RING)
    found, calls = ledger.claim(2, 60), 1
    while found.more and not found.claims:
        found, calls = ledger.claim(2, 60), calls + 1
    assert [claim.id for claim in found.claims] == [mission_id]
    assert calls <= 5
    assert client.zcard(Key.QUEUED) == 0


def test_a_mission_in_another_index_than_that_of_its_priority_is_claimed_once(
    ledger: Ledger, client: redis.Redis
) -> None:
    (mission_id,) = admit(ledger, 1)
    client.zadd(INDEX_OF[HIGH], {mission_id: 1})
    found = [claim.id for _ in range(3) for claim in ledger.claim(1, 60).claims]
    assert found == [mission_id]
    assert ledger.stats().queued == 0
    assert ledger.status(mission_id).state is State.RUNNING


@pytest.mark.parametrize("place", [*range(9)])
@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "1e400"])
def test_a_claim_by_hand_without_numbers_writes_nothing(
    place: int, value: str, ledger: Ledger, client: redis.Redis
) -> None:
    (mission_id,) = admit(ledger, 1)
    before = client.hgetall(entry_key(mission_id))
    arguments: list[object] = [1, 1, 1, 60_000, 60, 1, 2, 2000, 10**12]
    arguments[place] = value
    with pytest.raises(LedgerUnavailable, match="next takes whole numbers"):
        Scripts(client).run("next", *arguments)
    assert client.hgetall(entry_key(mission_id)) == before
