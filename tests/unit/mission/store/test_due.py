"""Due missions: taken from each host in turn, and from a paused host only a probe."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.store.changes import Admission, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key
from mission.store.scripts import Scripts, as_text
from tests.claims import claim_these
from tests.conftest import wait_for

DEAD, OTHER = "d" * 32, "a" * 32
PAUSE = 20.0


def admit(ledger: Ledger, count: int) -> list[str]:
    answers = ledger.admit([Admission(new_mission_id(), b"sealed url", 100) for _ in range(count)], "app")
    return [answer.id for answer in answers]


def put_off(ledger: Ledger, ids: Sequence[str], host: str, *, seconds: float = 0.0) -> None:
    """Give a mission back, as after a claim that found the host paused or busy."""
    claims = claim_these(ledger, ids, len(ids), 60).claims
    ledger.release([Release(c.id, c.token, Reason.HOST_PAUSED, seconds, False, host) for c in claims], 5)


def due(ledger: Ledger, host: str, count: int = 1) -> list[str]:
    ids = admit(ledger, count)
    put_off(ledger, ids, host)
    return ids


def pause(ledger: Ledger, host: str = DEAD) -> None:
    assert ledger.host_failed(host, "app", 1, PAUSE)


def pause_is_over(client: redis.Redis, ledger: Ledger, host: str = DEAD) -> None:
    """And its turn has come."""
    now = client.time()[0] * 1000
    client.hset(Key.HOSTS, host, f"5 {now - 1} {now - 20_000} 0 0 app")
    client.zadd(Key.DUE_HOSTS, {host: now - 1}, xx=True)


def test_a_mission_of_another_host_does_not_wait_behind_a_hosts_thousands(ledger: Ledger) -> None:
    for _ in range(3):
        due(ledger, DEAD, 1000)
    (bystander,) = due(ledger, OTHER)
    ids, more = ledger.take_due(1000)
    assert bystander in ids
    assert (len(ids), more) == (501, True)


def test_each_host_has_its_turn_however_many_there_are(ledger: Ledger) -> None:
    for n in range(300):
        due(ledger, f"{n:032x}", 3)
    (bystander,) = due(ledger, OTHER)
    rounds = [ledger.take_due(100)[0] for _ in range(4)]
    assert bystander in rounds[3]
    assert [len(ids) for ids in rounds] == [100] * 4


def test_who_asks_twice_within_a_millisecond_gets_more_of_each_host(client: redis.Redis, ledger: Ledger) -> None:
    of = {host: set(due(ledger, host, 12)) for host in (DEAD, OTHER)}
    with client.pipeline() as pipe:  # both at almost the same moment
        for _ in range(2):
            Scripts(client).put(pipe, "due", 6)
        answers = pipe.execute()
    for ids, more in answers:
        assert more == 1
        assert [len(of[host] & {as_text(id_) for id_ in ids}) for host in (DEAD, OTHER)] == [3, 3]


def test_in_the_end_all_have_been_taken_once(ledger: Ledger) -> None:
    expected = due(ledger, DEAD, 250) + due(ledger, OTHER, 7) + due(ledger, "", 40)
    taken: list[str] = []
    more = True
    while more:
        ids, more = ledger.take_due(50)
        taken += ids
    assert sorted(taken) == sorted(expected)
    assert {ledger.status(mission_id).state for mission_id in taken} == {State.QUEUED}
    assert ledger.take_due(50) == ([], False)


def test_what_is_not_due_yet_is_not_taken(ledger: Ledger) -> None:
    late = admit(ledger, 1)
    put_off(ledger, late, OTHER, seconds=60)
    (early,) = due(ledger, OTHER)
    assert ledger.take_due(10) == ([early], False)
    assert ledger.take_due(10) == ([], False)


def test_a_mission_that_is_due_earlier_than_those_of_its_host_does_not_wait_for_them(ledger: Ledger) -> None:
    put_off(ledger, admit(ledger, 1), OTHER, seconds=60)
    assert ledger.take_due(10) == ([], False)
    (early,) = due(ledger, OTHER)
    assert ledger.take_due(10) == ([early], False)


def test_a_paused_hosts_missions_wait_in_one_place(ledger: Ledger) -> None:
    due(ledger, DEAD, 20)
    pause(ledger)
    due(ledger, DEAD, 20)
    (bystander,) = due(ledger, OTHER)
    assert ledger.take_due(1000) == ([bystander], False)
    assert ledger.stats().retrying == 40


def test_after_the_pause_one_mission_probes_and_the_others_follow_when_it_has_reached_the_host(
    ledger: Ledger, client: redis.Redis
) -> None:
    ids = due(ledger, DEAD, 20)
    pause(ledger)
    pause_is_over(client, ledger)
    (probe,), more = ledger.take_due(1000)
    assert not more
    late = due(ledger, DEAD, 3)  # also found the host paused: no reason for another probe
    assert ledger.take_due(1000) == ([], False)
    ledger.host_reached(DEAD)
    assert sorted([probe, *ledger.take_due(1000)[0]]) == sorted(ids + late)


def test_while_a_probe_tries_the_host_there_is_no_other(ledger: Ledger, client: redis.Redis) -> None:
    due(ledger, DEAD, 20)
    pause(ledger)
    pause_is_over(client, ledger)
    assert ledger.host_probe(DEAD, PAUSE)
    assert ledger.take_due(1000) == ([], False)


def test_a_probe_that_fails_pauses_the_others_again(ledger: Ledger, client: redis.Redis) -> None:
    due(ledger, DEAD, 20)
    pause(ledger)
    pause_is_over(client, ledger)
    assert len(ledger.take_due(1000)[0]) == 1
    pause(ledger)
    client.zadd(Key.DUE_HOSTS, {DEAD: 1}, xx=True)
    assert ledger.take_due(1000) == ([], False)


def test_a_probe_that_learns_nothing_is_followed_by_the_next_one(ledger: Ledger, client: redis.Redis) -> None:
    due(ledger, DEAD, 20)
    pause(ledger)
    pause_is_over(client, ledger)
    assert len(ledger.take_due(1000)[0]) == 1
    assert ledger.host_probe(DEAD, PAUSE)
    ledger.host_unprobed(DEAD)
    wait_for(lambda: len(ledger.take_due(1000)[0]) == 1, what="the next probe")


def test_a_clock_that_runs_back_does_not_keep_a_hosts_missions(ledger: Ledger, client: redis.Redis) -> None:
    due(ledger, DEAD, 20)
    pause(ledger)
    ahead = (client.time()[0] + 3600) * 1000
    client.hset(Key.HOSTS, DEAD, f"5 {ahead + 20_000} {ahead} 0 0 app")
    client.zadd(Key.DUE_HOSTS, {DEAD: ahead + 20_000}, xx=True)
    ledger.hosts()
    assert len(ledger.take_due(1000)[0]) == 1


def test_a_mission_that_is_forgotten_or_too_old_waits_for_no_host_any_more(ledger: Ledger, client: redis.Redis) -> None:
    forgotten, old, stays = due(ledger, DEAD, 3)
    pause(ledger)
    client.zadd(Key.EXPIRY, {old: 1})
    assert ledger.reap(5, 2).dead == [(old, Reason.EXPIRED)]
    ledger._scripts.run("forget", forgotten)
    assert client.zrange(Key.DUE_OF + DEAD, 0, -1) == [stays.encode()]
    assert not client.hexists(entry_key(old), "host")


def test_a_mission_that_is_taken_says_no_more_which_host_it_waited_for(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = due(ledger, OTHER)
    assert client.hget(entry_key(mission_id), "host") == OTHER.encode()
    ledger.take_due(10)
    assert not client.hexists(entry_key(mission_id), "host")
    assert client.exists(Key.DUE_HOSTS, Key.DUE_OF + OTHER) == 0


def test_what_an_earlier_release_left_among_the_due_comes_back(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger, 1)
    client.zrem(Key.QUEUED, mission_id)
    client.hset(entry_key(mission_id), "state", "retrying")
    client.zadd(Key.DUE, {mission_id: 1})
    assert ledger.take_due(10) == ([mission_id], False)


@pytest.mark.parametrize("host", [DEAD, ""])
def test_what_is_no_mission_is_put_aside_and_the_others_go_on(ledger: Ledger, client: redis.Redis, host: str) -> None:
    (typed, counted, good) = due(ledger, host, 3)
    client.delete(entry_key(typed))
    client.set(entry_key(typed), "x")
    client.hset(entry_key(counted), "attempts", "many")
    client.zadd(Key.DUE_OF + host if host else Key.DUE, {b"\xff" * 100: 1, b"garbage": 2})
    assert ledger.take_due(10)[0] == [good]
    assert client.hgetall(Key.DAMAGED) == {
        typed.encode(): b"type",
        counted.encode(): b"attempts",
        b"\xff" * 64: b"id",
        b"garbage": b"id",
    }
    assert client.zrange(Key.OPEN, 0, -1) == [good.encode()]


def test_a_hosts_group_of_another_type_is_in_nobodys_way(ledger: Ledger, client: redis.Redis) -> None:
    due(ledger, DEAD)
    client.set(Key.DUE_OF + DEAD, "x")
    (bystander,) = due(ledger, OTHER)
    assert ledger.take_due(10)[0] == [bystander]
    client.set(Key.DUE_OF + DEAD, "x")
    (released,) = due(ledger, DEAD)
    assert ledger.take_due(10)[0] == [released]


@pytest.mark.parametrize("field", ["url", "submitter", "submitted_at", "expires_at", "attempts"])
def test_a_claim_puts_aside_what_no_release_wrote_and_takes_the_others(
    ledger: Ledger, client: redis.Redis, field: str
) -> None:
    damaged, typed, good = admit(ledger, 3)
    if field in ("url", "submitter"):
        client.hdel(entry_key(damaged), field)
    else:
        client.hset(entry_key(damaged), field, "soon")
    client.delete(entry_key(typed))
    client.lpush(entry_key(typed), "x")
    claimed = claim_these(ledger, [damaged, typed, good], 3, 60)
    assert [claim.id for claim in claimed.claims] == [good]
    assert client.hgetall(Key.DAMAGED) == {damaged.encode(): field.encode(), typed.encode(): b"type"}


def test_a_release_puts_aside_what_no_release_wrote(ledger: Ledger, client: redis.Redis) -> None:
    first, second = claim_these(ledger, admit(ledger, 2), 2, 60).claims
    client.delete(entry_key(first.id))
    client.set(entry_key(first.id), "x")
    client.hset(entry_key(second.id), "attempts", "1e9")
    releases = [Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0.0, host=OTHER) for claim in (first, second)]
    assert ledger.release(releases, 5) == [None, None]
    assert client.hlen(Key.DAMAGED) == 2


def test_a_reaper_puts_aside_what_no_release_wrote_and_goes_on(ledger: Ledger, client: redis.Redis) -> None:
    typed, counted, good = (claim.id for claim in claim_these(ledger, admit(ledger, 3), 3, 60).claims)
    client.zadd(Key.LEASES, {typed: 1, counted: 2, good: 3, "\x00": 4})
    client.delete(entry_key(typed))
    client.set(entry_key(typed), "x")
    client.hset(entry_key(counted), "crashes", "-")
    found = ledger.reap(5, 2)
    assert (found.again, found.leases_expired) == ([good], 1)
    assert client.hlen(Key.DAMAGED) == 3
    assert client.zcard(Key.LEASES) == 0


def test_the_list_of_damaged_missions_has_an_end(ledger: Ledger, client: redis.Redis) -> None:
    client.hset(Key.DAMAGED, mapping={str(n): "id" for n in range(10_000)})
    client.zadd(Key.DUE, {"garbage": 1})
    assert ledger.take_due(10) == ([], False)
    assert client.hlen(Key.DAMAGED) == 10_000
    assert not client.exists(Key.DUE)
