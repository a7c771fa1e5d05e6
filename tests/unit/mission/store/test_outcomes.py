"""Following the outcomes: the stream contains each end once; in a group, each goes to one reader, at least once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
import redis

import mission.client
from mission.audit.log import AuditLog
from mission.errors import InvalidMission, LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Outcome, Reason, State
from mission.operate import cancellation, erasure
from mission.operate.dead_letters import DeadLetters
from mission.settings import Settings
from mission.store import library, outcomes
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key
from producer import MissionClient
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

LONG = 30.0
BEGINNING = datetime.fromtimestamp(0, UTC)


@pytest.fixture
def missions(settings: WorkerSettings) -> MissionClient:
    return MissionClient(settings)


@pytest.fixture
def audit(client: redis.Redis) -> AuditLog:
    return AuditLog(client, emit=lambda _: None)


def admitted(ledger: Ledger, count: int = 1, submitter: str = "app") -> list[str]:
    return [one.id for one in ledger.admit([Admission(new_mission_id(), b"u", 60) for _ in range(count)], submitter)]


def end(ledger: Ledger, ids: list[str], **fields: Any) -> None:
    ending: dict[str, Any] = {"state": State.SUCCEEDED, "secrets": 0} | fields
    ledger.commit(
        [Commit(claim.id, claim.token, **ending) for claim in claim_these(ledger, ids, len(ids), 60).claims], 60
    )


def ended(ledger: Ledger, count: int = 1) -> list[str]:
    """This many ended missions, in order."""
    ids = []
    for at in range(0, count, 500):
        some = admitted(ledger, min(500, count - at))
        end(ledger, some)
        ids += some
    return ids


def stored(client: redis.Redis) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = client.xrange(Key.OUTCOMES)
    return [*found]


def all_of(missions: MissionClient) -> list[Outcome]:
    return list(missions.outcomes(since=BEGINNING, follow=False))


def what_there_is(missions: MissionClient, group: str) -> list[str]:
    return [one.id for one in missions.outcomes(group, follow=False)]


# Content


def fail(ledger: Ledger, mission_id: str) -> None:
    end(ledger, [mission_id], state=State.FAILED, reason=Reason.DNS_FAILURE, secrets=None)


def die(ledger: Ledger, mission_id: str) -> None:
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, 0)], 1)


def expire(ledger: Ledger, mission_id: str) -> None:
    ledger.client.hset(entry_key(mission_id), "expires_at", 1)
    claim_these(ledger, [mission_id], 1, 60)


def lie_too_long(ledger: Ledger, mission_id: str) -> None:
    ledger.client.zadd(Key.EXPIRY, {mission_id: 1})
    ledger.reap(3, 2)


def cancel(ledger: Ledger, mission_id: str) -> None:
    log = AuditLog(ledger.client, emit=lambda _: None)
    cancellation.cancel(ledger.client, Settings.from_env(), log, mission_id, why="x")


@pytest.mark.parametrize(
    ("how", "state", "reason", "secrets"),
    [
        (lambda ledger, id_: end(ledger, [id_], secrets=7), State.SUCCEEDED, None, 7),
        (fail, State.FAILED, Reason.DNS_FAILURE, None),
        (die, State.DEAD, Reason.READ_TIMEOUT, None),
        (expire, State.DEAD, Reason.EXPIRED, None),
        (lie_too_long, State.DEAD, Reason.EXPIRED, None),
        (cancel, State.CANCELLED, Reason.CANCELLED, None),
    ],
    ids=["succeeds", "fails", "dies", "expires", "lies too long", "is cancelled"],
)
def test_each_way_to_end_is_told_once_as_the_status_has_it(
    ledger: Ledger,
    missions: MissionClient,
    how: Callable[[Ledger, str], None],
    state: State,
    reason: Reason | None,
    secrets: int | None,
) -> None:
    (mission_id,) = admitted(ledger)
    assert all_of(missions) == []
    how(ledger, mission_id)
    (told,) = all_of(missions)
    assert (told.id, told.submitter, told.state, told.reason, told.secrets) == (
        mission_id,
        "app",
        state,
        reason,
        secrets,
    )
    status = ledger.status(mission_id)
    assert (told.submitted_at, told.finished_at) == (status.submitted_at, status.finished_at)


def test_an_entry_holds_these_fields_and_nothing_else(ledger: Ledger, client: redis.Redis) -> None:
    ended(ledger)
    ((_, fields),) = stored(client)
    told = {"id", "submitter", "state", "reason", "secrets", "submitted_at", "finished_at"}
    assert {name.decode() for name in fields} == told


def test_a_commit_that_comes_twice_is_one_end(ledger: Ledger, missions: MissionClient) -> None:
    (claim,) = claim_these(ledger, admitted(ledger), 1, 60).claims
    commit = Commit(claim.id, claim.token, State.SUCCEEDED, secrets=0)
    assert ledger.commit([commit, commit], 60) == [State.SUCCEEDED] * 2
    assert [one.id for one in all_of(missions)] == [claim.id]


def test_a_dead_letter_that_is_replayed_ends_a_second_time_in_another_place(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, settings: Settings, audit: AuditLog
) -> None:
    (mission_id,) = admitted(ledger)
    die(ledger, mission_id)
    DeadLetters(client, settings, audit).replay(mission_id, why="x")
    assert ledger.take_due(1)[0] == [mission_id]
    end(ledger, [mission_id])
    first, second = all_of(missions)
    assert (first.id, first.state, second.id, second.state) == (mission_id, State.DEAD, mission_id, State.SUCCEEDED)
    assert first.place != second.place
    erasure.forget(client, settings, audit, mission_id, why="x")
    assert all_of(missions) == [], "neither of its ends is in the outcomes any more"


def test_who_forgets_a_mission_leaves_what_is_told_of_the_others(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, settings: Settings, audit: AuditLog
) -> None:
    ids = ended(ledger, 20)
    erasure.forget(client, settings, audit, ids[7], why="x")
    assert [one.id for one in all_of(missions)] == ids[:7] + ids[8:]


# Faults that must not interrupt the end of a mission


def test_where_no_stream_is_a_mission_ends_all_the_same_and_the_next_is_told(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    client.set(Key.OUTCOMES, "x")
    (mission_id,) = ended(ledger)
    assert ledger.status(mission_id).state is State.SUCCEEDED
    assert all_of(missions) == []
    assert [mended.key for mended in ledger.mend(60, 60)] == [Key.OUTCOMES]
    assert ended(ledger) == [one.id for one in all_of(missions)]


def test_a_stream_that_takes_no_more_ids_is_set_aside(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    client.xadd(Key.OUTCOMES, {"x": "y"}, id=f"{2**64 - 1}-{2**64 - 1}")
    (mission_id,) = ended(ledger)
    assert ledger.status(mission_id).state is State.SUCCEEDED
    assert [mended.key for mended in ledger.mend(60, 60)] == [Key.OUTCOMES]
    assert ended(ledger) == [one.id for one in all_of(missions)]
    assert ledger.mend(60, 60) == []


@pytest.mark.parametrize("field", ["submitter", "submitted_at"])
def test_what_no_release_wrote_to_an_entry_does_not_come_into_the_stream(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, field: str
) -> None:
    (claim,) = claim_these(ledger, admitted(ledger), 1, 60).claims
    client.hset(entry_key(claim.id), mapping={field: "x" * 100_000})
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, secrets=0)], 60)
    assert [one.id for one in all_of(missions)] == [claim.id]
    ((_, fields),) = stored(client)
    assert fields[field.encode()] == b""


@pytest.mark.server("CONFIG")
def test_on_a_full_redis_what_runs_ends_and_is_told_once_there_is_room(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    ids = admitted(ledger)
    told = missions.outcomes("g")
    (claim,) = claim_these(ledger, ids, 1, 60).claims
    client.config_set("maxmemory", "1mb")
    try:
        ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, secrets=0)], 60)
        with pytest.raises(LedgerUnavailable, match="maxmemory"):
            missions.outcomes("another")
    finally:
        client.config_set("maxmemory", "0")
    assert next(told).id == claim.id


# Retention


def test_no_more_are_kept_than_are_wanted(ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "MOST_OUTCOMES", 200)
    library.source.cache_clear()
    try:
        library.load(client)
        ids = ended(ledger, 1000)
    finally:
        monkeypatch.undo()
        library.source.cache_clear()
        library.load(client)
    kept = stored(client)
    assert 200 <= len(kept) <= 300, "Redis deletes whole blocks"
    assert [fields[b"id"].decode() for _, fields in kept] == ids[-len(kept) :]


def test_an_outcome_goes_with_the_missions_own_lifetime(ledger: Ledger, client: redis.Redis) -> None:
    now = client.time()[0] * 1000
    day = 86_400_000
    for age in (31 * day, 30 * day + 60_000, 30 * day - 60_000):
        client.xadd(Key.OUTCOMES, {"id": str(age)}, id=f"{now - age}-0")
    ledger.reap(3, 2)
    assert [fields[b"id"] for _, fields in stored(client)] == [str(30 * day - 60_000).encode()]


# A reader without a group


def test_who_follows_alone_is_told_all_that_ends_from_his_call_on_in_order(
    ledger: Ledger, missions: MissionClient
) -> None:
    ended(ledger)
    told, another = missions.outcomes(), missions.outcomes()
    ids = ended(ledger, 600)
    assert [one.id for one in islice(told, 600)] == ids
    assert [one.id for one in islice(another, 600)] == ids


def test_who_begins_at_a_time_is_told_what_ended_since(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    for at in (1000, 2000, 3000):
        client.xadd(Key.OUTCOMES, {"id": str(at)}, id=f"{at}-0")
    since = datetime.fromtimestamp(2, UTC)
    assert [one.id for one in missions.outcomes(since=since, follow=False)] == ["2000", "3000"]
    assert [one.id for one in missions.outcomes("g", since=since, follow=False)] == ["2000", "3000"]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert list(missions.outcomes(since=later, follow=False)) == []


def test_who_waits_for_the_next_is_told_at_once(
    ledger: Ledger, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "_LISTEN_SECONDS", LONG)
    told = MissionClient(settings.model_copy(update={"redis_timeout": 2 * LONG})).outcomes()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, told)
        ids = ended(ledger)
        assert waiting.result(LONG / 2).id == ids[0]


# A group


def test_of_a_group_each_outcome_goes_to_one_reader(ledger: Ledger, missions: MissionClient) -> None:
    readers = [missions.outcomes("g") for _ in range(3)]
    ids = ended(ledger, 9)
    told = [next(reader).id for _ in range(3) for reader in readers]
    assert sorted(told) == sorted(ids)


def test_another_group_is_told_the_same(ledger: Ledger, missions: MissionClient) -> None:
    groups = [missions.outcomes(name, follow=False) for name in ("a", "b")]
    ids = ended(ledger, 5)
    assert [[one.id for one in told] for told in groups] == [ids, ids]


def test_a_new_group_begins_with_the_call_and_then_goes_on_where_it_was(
    ledger: Ledger, missions: MissionClient
) -> None:
    ended(ledger)
    told = missions.outcomes("g", follow=False)
    first = ended(ledger, 2)
    assert [one.id for one in told] == first
    second = ended(ledger, 2)
    assert what_there_is(missions, "g") == second
    assert [one.id for one in missions.outcomes("g", since=BEGINNING, follow=False)] == []


def test_what_was_dealt_with_is_nobodys_any_more(ledger: Ledger, client: redis.Redis, missions: MissionClient) -> None:
    told = missions.outcomes("g", follow=False)
    ids = ended(ledger, 300)
    assert [one.id for one in told] == ids
    assert client.zcard(Key.HELD + "g") == 0


def its_time_is_over(client: redis.Redis) -> None:
    """Make all held outcomes overdue."""
    held: Any = client.zrange(Key.HELD + "g", 0, -1)
    if held:
        client.zadd(Key.HELD + "g", dict.fromkeys(held, 1))


def test_what_a_reader_left_goes_to_another_and_not_before_its_time(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g")
    ids = ended(ledger, 4)
    assert [next(told).id for _ in range(2)] == ids[:2]
    told.close()  # type: ignore[attr-defined]  # a generator's; as an exception in the loop does, and `break`
    assert what_there_is(missions, "g") == ids[3:], "the quick reader received the third one together with the second"
    its_time_is_over(client)
    assert what_there_is(missions, "g") == ids[1:3], "asking for the second one acknowledged the first"


def test_one_who_is_slow_has_one_in_hand_and_one_who_is_quick_has_more(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = missions.outcomes("g")
    ended(ledger, 2000)
    monkeypatch.setattr(outcomes, "_AT_ONCE_SECONDS", 0.0)
    in_hand = set()
    for _ in islice(told, 50):
        in_hand.add(client.zcard(Key.HELD + "g"))
    assert in_hand == {1}
    monkeypatch.setattr(outcomes, "_AT_ONCE_SECONDS", LONG)
    for _ in islice(told, 900):
        in_hand.add(client.zcard(Key.HELD + "g"))
    assert max(in_hand) == outcomes.MOST_AT_ONCE


def test_what_has_lain_for_too_long_with_one_who_is_slow_is_not_told_by_him(
    ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    reader = outcomes._Reader(outcomes.Outcomes(client, settings), "g", "$", 0.05)
    reader.take(0)
    ids = ended(ledger, 3)
    told = reader.outcomes(endless=False)
    assert next(told).id == ids[0]
    assert next(told).id == ids[1]
    wait_for(lambda: client.zcount(Key.HELD + "g", "-inf", 1000 * client.time()[0]) > 0, what="its hold time to end")
    rest = [one.id for one in told]
    assert rest == ids[2:], "the reader receives it again, like any other"


def test_a_reader_of_a_group_that_is_behind_is_told_how_many_were_dropped(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g", follow=False)
    ids = ended(ledger, 10)
    client.xtrim(Key.OUTCOMES, maxlen=4, approximate=False)
    assert [(one.id, one.missed) for one in told] == [(ids[6], 6), *((id_, 0) for id_ in ids[7:])]
    ended(ledger, 3)
    client.xtrim(Key.OUTCOMES, maxlen=0, approximate=False)
    assert what_there_is(missions, "g") == [], "no outcome to report it with"
    (last,) = ended(ledger)
    assert [(one.id, one.missed) for one in missions.outcomes("g", follow=False)] == [(last, 3)]


def test_one_that_was_dropped_in_a_readers_hands_is_missed_too(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    next_of = missions.outcomes("g")
    ended(ledger)
    next(next_of)
    next_of.close()  # type: ignore[attr-defined]  # a generator's
    client.xtrim(Key.OUTCOMES, maxlen=0, approximate=False)
    its_time_is_over(client)
    assert what_there_is(missions, "g") == []
    (last,) = ended(ledger)
    assert [(one.id, one.missed) for one in missions.outcomes("g", follow=False)] == [(last, 1)]


def test_nothing_is_missed_where_all_that_was_dropped_had_been_told(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g", since=BEGINNING, follow=False)
    ended(ledger, 5)
    assert len(list(told)) == 5
    client.xtrim(Key.OUTCOMES, maxlen=0, approximate=False)
    ids = ended(ledger, 2)
    client.xtrim(Key.OUTCOMES, maxlen=1, approximate=False)
    assert [(one.id, one.missed) for one in missions.outcomes("g", follow=False)] == [(ids[1], 1)]
    ended(ledger)
    assert [one.missed for one in missions.outcomes("g", follow=False)] == [0]


def test_who_follows_alone_is_told_of_a_gap_as_well(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes()
    ended(ledger, 10)
    client.xtrim(Key.OUTCOMES, maxlen=3, approximate=False)
    assert [one.missed for one in islice(told, 3)] == [7, 0, 0]


def test_a_group_that_nobody_asks_for_goes_with_the_missions(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, settings: WorkerSettings
) -> None:
    told = missions.outcomes("g")
    ended(ledger)
    next(told)
    stay = settings.ledger_ttl
    for key in (Key.GROUP, Key.HELD):
        assert stay - 60 < client.ttl(key + "g") <= stay
        client.expire(key + "g", 1000)
    missions.outcomes("g")
    for key in (Key.GROUP, Key.HELD):
        assert stay - 60 < client.ttl(key + "g") <= stay


def test_what_is_dropped_behind_a_group_is_not_missed(client: redis.Redis, missions: MissionClient) -> None:
    for at in (1000, 2000, 3000, 4000):
        client.xadd(Key.OUTCOMES, {"id": str(at)}, id=f"{at}-0")
    told = missions.outcomes("g", since=datetime.fromtimestamp(2.5, UTC))
    assert next(told).id == "3000"
    client.xtrim(Key.OUTCOMES, minid="3000-0", approximate=False)
    last = next(told)
    assert (last.id, last.missed) == ("4000", 0)


# Faults


def test_after_a_failover_that_lost_the_newest_none_of_the_next_is_missed(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g")
    now = client.time()[0] * 1000
    client.xadd(Key.OUTCOMES, {"id": "lost"}, id=f"{now + 5000}-0")
    assert next(told).id == "lost"
    client.delete(Key.OUTCOMES)
    ids = ended(ledger, 2)
    assert [next(told).id for _ in ids] == ids


GARBAGE: dict[str, Callable[[redis.Redis], Any]] = {
    "a group of another type": lambda client: client.set(Key.GROUP + "g", "x"),
    "held of another type": lambda client: client.set(Key.HELD + "g", "x"),
    "no place": lambda client: client.hset(Key.GROUP + "g", "place", "x"),
    "a position that is no valid id": lambda client: client.hset(Key.GROUP + "g", "place", "1-" + "9" * 30),
    "no count": lambda client: client.hset(Key.GROUP + "g", "count", "-1"),
    "no number of missed": lambda client: client.hset(Key.GROUP + "g", "missed", "9" * 400),
    "no ids": lambda client: client.zadd(Key.HELD + "g", {"x": 1, "": 2, "-": 3, "\xff": float("-inf")}),
    "no outcome": lambda client: client.xadd(Key.OUTCOMES, {b"\xff": b"\xfe", "state": "x" * 5000, "secrets": "-1"}),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_whatever_somebody_writes_there_the_group_goes_on(
    garbage: Callable[[redis.Redis], Any], ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g")
    ended(ledger)
    next(told)
    garbage(client)
    rest = missions.outcomes("g", follow=False)
    (last,) = ended(ledger)
    assert last in {one.id for one in rest}


def test_what_is_no_outcome_does_not_delay_one_that_a_reader_left(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g")
    ids = ended(ledger)
    next(told)
    told.close()  # type: ignore[attr-defined]  # a generator's
    its_time_is_over(client)
    client.zadd(Key.HELD + "g", {f"garbage-{n}": 0 for n in range(900)})
    assert what_there_is(missions, "g") == ids
    assert client.zcard(Key.HELD + "g") == 0


def test_what_a_clock_ahead_gave_is_not_kept_for_as_long_as_it_was_ahead(
    ledger: Ledger, client: redis.Redis, missions: MissionClient
) -> None:
    told = missions.outcomes("g")
    ids = ended(ledger)
    next(told)
    told.close()  # type: ignore[attr-defined]  # a generator's
    held: Any = client.zrange(Key.HELD + "g", 0, -1)
    client.zincrby(Key.HELD + "g", 3_600_000, held[0])
    assert what_there_is(missions, "g") == ids


@pytest.mark.parametrize(
    "arguments",
    [
        {"group": ""},
        {"group": "a b"},
        {"group": "x" * 65},
        {"group": "-x"},
        {"hold_seconds": 0.5},
        {"hold_seconds": 90_000},
        {"since": datetime(2026, 11, 28)},  # noqa: DTZ001 (this is what the call refuses)
    ],
)
def test_bad_arguments_are_refused_at_once(missions: MissionClient, arguments: Any) -> None:
    with pytest.raises(InvalidMission, match="malformed_message: "):
        missions.outcomes(**arguments)


@pytest.mark.parametrize(
    "arguments", [["x" * 65, 1, 1, 1, "$", ""], ["g", 1, "x", 1, "$", ""], ["g", 1, 1, "", "$", ""]]
)
def test_a_call_by_hand_writes_nothing(ledger: Ledger, client: redis.Redis, arguments: list[object]) -> None:
    with pytest.raises(LedgerUnavailable, match="follow takes no such group"):
        ledger._scripts.run("follow", *arguments)
    assert not client.exists(Key.GROUP + "g")


def test_where_redis_does_not_answer_who_begins_is_told() -> None:
    nowhere = MissionClient(Settings.from_env(redis_url="redis://127.0.0.1:1/0"))
    with pytest.raises(LedgerUnavailable):
        nowhere.outcomes("g")


@pytest.mark.server("the server is stopped and started")
def test_who_follows_is_still_there_when_redis_comes_back(
    ledger: Ledger, missions: MissionClient, redis_server: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    told = missions.outcomes("g")
    before = ended(ledger)
    assert next(told).id == before[0]
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING, "mission.outcomes"):
        waiting = pool.submit(next, told)
        redis_server.stop()
        wait_for(lambda: "cannot follow the outcomes now" in caplog.text, what="the outage to be noticed")
        redis_server.start()
        after = ended(ledger)
        assert waiting.result(LONG).id == after[0]
    assert "following the outcomes again" in caplog.text


def test_ctrl_c_leaves_what_was_not_dealt_with(ledger: Ledger, client: redis.Redis, missions: MissionClient) -> None:
    def read() -> Iterator[None]:
        for _ in missions.outcomes("g"):
            raise KeyboardInterrupt
        yield

    missions.outcomes("g")
    ids = ended(ledger)
    with pytest.raises(KeyboardInterrupt):
        next(read())
    its_time_is_over(client)
    assert what_there_is(missions, "g") == ids


# Waiting for several missions


def test_who_waits_for_several_hears_of_each_and_does_not_ask_for_the_others(
    ledger: Ledger, missions: MissionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", LONG)
    ids = admitted(ledger, 300)
    looks: list[str] = []
    statuses = Ledger.statuses

    def counted(self: Ledger, asked: list[str]) -> Any:
        looks.extend(asked)
        return statuses(self, asked)

    monkeypatch.setattr(Ledger, "statuses", counted)
    with ThreadPoolExecutor(1) as pool:
        told = missions.follow(ids, LONG)
        waiting = pool.submit(next, told)
        wait_for(lambda: len(looks) == 300, what="the first look")
        end(ledger, ids[7:8])
        assert waiting.result(LONG / 2).id == ids[7]
        ended(ledger, 1100)  # other missions, more than one command reads
        end(ledger, ids[8:20])
        assert {next(told).id for _ in range(12)} == set(ids[8:20])
    assert looks[300:] == ids[7:20]


@pytest.mark.server("fakeredis fails at XREAD without a stream")
@pytest.mark.parametrize("silent", ["no stream", "no word"])
def test_an_end_of_which_the_stream_says_nothing_is_seen_all_the_same(
    ledger: Ledger, client: redis.Redis, missions: MissionClient, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(outcomes, "_TURN", 2)
    ids = admitted(ledger, 5)
    if silent == "no stream":
        client.set(Key.OUTCOMES, "x")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: [status.id for status in missions.follow(ids, LONG)])
        if silent == "no stream":
            end(ledger, ids)
        else:
            for mission_id in ids:
                client.hset(entry_key(mission_id), mapping={"state": "failed", "finished_at": 1})
        assert sorted(waiting.result(LONG / 2)) == sorted(ids)
