"""Damage to the ledger's keys by anyone with a login stops no other mission for longer than a reaper's round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mission.audit.log import AuditLog
from mission.errors import DecoderError
from mission.ids import new_mission_id
from mission.model import Claim, Reason, State
from mission.operate.dead_letters import DeadLetters
from mission.operate.erasure import forget
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import REAP_LIMIT, Ledger
from mission.store.names import INDEXES, Key, entry_key, result_key
from mission.store.scripts import Scripts
from mission.url import MAX_LENGTH

BAD = "0f8fad5b-d9cb-469f-a165-70867728950e"
WRITE: dict[str, Callable[[redis.Redis, str], Any]] = {
    "string": lambda client, key: client.set(key, b"\xffgarbage"),
    "list": lambda client, key: client.lpush(key, b"\xffgarbage", "1"),
    "set": lambda client, key: client.sadd(key, b"\xffgarbage", "1"),
    "hash": lambda client, key: client.hset(key, mapping={b"\xff": b"garbage", "succeeded": "x", "queue_full": "x"}),
    "zset": lambda client, key: client.zadd(
        key, {b"\xffgarbage": float("inf"), b"1": float("-inf"), BAD.encode(): 1e300}
    ),
    "stream": lambda client, key: client.xadd(key, {b"\xff": b"garbage"}),
}
OF_ONE = {
    Key.ENTRY: BAD,
    Key.RESULT: f"{BAD}:1",
    **dict.fromkeys((Key.QUOTA, Key.STORED, Key.GROUP, Key.HELD), "app"),
    Key.LINE: "normal:app",
    Key.RING: "normal",
}
FIELDS = (
    *("v", "state", "token", "url", "reason", "attempts", "secrets", "submitter", "submitted_at", "finished_at"),
    *("expires_at", "history", "print_key", "print", "crashes", "missed_at", "again", "host", "priority"),
)
VALUES = st.one_of(
    st.sampled_from(
        [*State, "paused", "1", "-1", "0", "1e400", "nan", "inf", "0x1F", "9" * 19, "9" * 400, "1:a b :c", ""]
    ),
    st.binary(max_size=12),
)
SCORES = st.sampled_from([float("inf"), float("-inf"), 0.0, -1.0, 1e300, 1e13])


@dataclass(frozen=True)
class Everything:
    """Every operation that touches the store, by name."""

    client: redis.Redis
    ledger: Ledger
    settings: Settings

    def on(self, mission_id: str) -> dict[str, Callable[[], Any]]:
        """All operations on one mission, and those beside it."""
        audit = AuditLog(self.client, emit=lambda line: None)
        letters = DeadLetters(self.client, self.settings, audit)
        identity = Identity(X25519, b"i" * 32)
        ledger = self.ledger
        return {
            "admit": lambda: ledger.admit([Admission(mission_id, b"u", 60)], "app"),
            "claim": lambda: ledger.claim(1, 60),
            "commit": lambda: ledger.commit([Commit(mission_id, 1, State.SUCCEEDED, secrets=0, record=b"r")], 60),
            "release": lambda: ledger.release([Release(mission_id, 1, Reason.READ_TIMEOUT, 0)], 3),
            "reap": lambda: self.round(),
            "host_failed": lambda: ledger.host_failed("host", "app", 1, 60),
            "host_probe": lambda: ledger.host_probe("host", 60),
            "host_reached": lambda: ledger.host_reached("host"),
            "hosts": ledger.hosts,
            "status": lambda: ledger.status(mission_id).as_dict(),
            "stats": ledger.stats,
            "outcomes": lambda: [*ledger.outcomes.follow("app", None, endless=False, hold_seconds=60)],
            "refusals": ledger.refusals,
            "count_refusals": lambda: ledger.count_refusals(Reason.INVALID_URL),
            "keys_seen": lambda: ledger.keys_seen([("url", "a")]),
            "list": lambda: [letter.as_dict() for letter in letters.find()],
            "get": lambda: letters.get(mission_id).as_dict(),
            "replay": lambda: letters.replay(mission_id, why="a test"),
            "discard": lambda: letters.discard(mission_id, why="a test"),
            "reveal": lambda: ResultReader(self.client, [identity], audit).reveal(mission_id, reason="a test"),
            "forget": lambda: forget(self.client, self.settings, audit, mission_id, why="a test"),
        }

    def round(self) -> list[str]:
        """Do a worker's reaper round, as once a second; return the ids that it would publish."""
        if self.client.pttl(Key.REAPER) > 0:  # entries that expire by themselves, expired
            self.client.delete(Key.REAPER)
        found = self.ledger.reap(3, 2)
        return [*found.again, *self.ledger.take_due(10)[0]]

    def claim(self, mission_id: str) -> Claim:
        """Claim the mission when its turn comes: others may wait before it, and ids that are not missions."""
        for _ in range(5):
            for claim in self.ledger.claim(20, 60).claims:
                if claim.id == mission_id:
                    return claim
        pytest.fail("it does not come up")

    def healthy(self) -> None:
        """A mission goes through every possible step."""
        mission = new_mission_id()
        assert self.ledger.admit([Admission(mission, b"u", 60)], "app")[0].state == State.QUEUED
        claim = self.claim(mission)
        assert self.ledger.release([Release(mission, claim.token, Reason.READ_TIMEOUT, 0)], 3) == [State.RETRYING]
        for _ in range(50):
            if mission in self.round():
                break
        else:
            pytest.fail("it is never due again")
        claim = self.claim(mission)
        ending = Commit(mission, claim.token, State.SUCCEEDED, secrets=0, record=b"r")
        assert self.ledger.commit([ending], 60) == [State.SUCCEEDED]
        assert self.ledger.status(mission).state is State.SUCCEEDED
        told = self.ledger.outcomes.follow("app", datetime.fromtimestamp(0, UTC), endless=False, hold_seconds=60)
        assert mission in {one.id for one in told}


@pytest.fixture
def everything(client: redis.Redis, ledger: Ledger, settings: Settings) -> Everything:
    return Everything(client, ledger, settings)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("key", [key + OF_ONE.get(key, "") for key in Key])
def test_a_key_of_another_type_stops_nothing_for_longer_than_a_round(
    everything: Everything, key: str, kind: str
) -> None:
    WRITE[kind](everything.client, key)
    for index in INDEXES:
        with suppress(redis.ResponseError):
            everything.client.zadd(index, {BAD: 1})
    for do in everything.on(BAD).values():
        with suppress(DecoderError):
            do()
    everything.ledger.mend(120, 3600)
    everything.healthy()


@pytest.mark.parametrize("value", ["", "x", "-1", "1e400", "inf", "nan", "9" * 15, "9" * 18, "9" * 400])
@pytest.mark.parametrize("key", [Key.SEQ, Key.HEAD, Key.LOOKED, Key.TOKEN, Key.REAPER, f"{Key.QUOTA}app"])
def test_a_counter_that_is_none_stops_nothing(everything: Everything, key: str, value: str) -> None:
    everything.client.set(key, value)
    for do in everything.on(BAD).values():
        with suppress(DecoderError):
            do()
    everything.ledger.mend(120, 3600)
    everything.healthy()


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entry=st.one_of(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1), st.sampled_from(sorted(WRITE))),
    missing=st.sets(st.sampled_from(FIELDS), max_size=2),
    state=st.sampled_from(State),
    indexes=st.dictionaries(st.sampled_from(INDEXES), SCORES),
    member=st.sampled_from([BAD.encode(), b"\xff", b"", b"no-id"]),
)
def test_a_damaged_entry_stops_no_other(
    everything: Everything, entry: Any, missing: set[str], state: State, indexes: dict[Key, float], member: bytes
) -> None:
    client, ledger = everything.client, everything.ledger
    client.flushall()
    if isinstance(entry, str):
        WRITE[entry](client, entry_key(BAD))
    else:
        # An entry that is valid except for these fields: else the first failed check would hide the others.
        ledger.admit([Admission(BAD, b"u", 60)], "app")
        client.hset(entry_key(BAD), mapping={"state": state} | entry)
        if missing:
            client.hdel(entry_key(BAD), *missing)
    client.set(result_key(BAD, 1), b"sealed")
    for index, score in indexes.items():
        client.zadd(index, {BAD.encode(): score, member: score})
    good = new_mission_id()
    ledger.admit([Admission(good, b"u", 60)], "app")
    assert [claim.id for claim in ledger.claim(2, 60).claims if claim.id != BAD] == [good]
    ledger.release([Release(BAD, 1, Reason.READ_TIMEOUT, 0)], 3)
    ledger.commit([Commit(BAD, 1, State.SUCCEEDED, secrets=0)], 60)
    for name, do in everything.on(BAD).items():
        try:
            do()
        except DecoderError as error:
            assert "WRONGTYPE" not in str(error) and "script" not in str(error), name  # noqa: PT017, PT018 (of several)
    everything.healthy()


@pytest.mark.parametrize("state", ["running", "succeeded", "of_a_newer_release"])
def test_what_does_not_expire_hides_nobody_that_does(everything: Everything, state: str) -> None:
    """A producer's login can write both: entries, and the index of what expires."""
    client, ledger = everything.client, everything.ledger
    pipe = client.pipeline(transaction=False)
    for mission in (new_mission_id() for _ in range(REAP_LIMIT)):
        pipe.hset(entry_key(mission), mapping={"state": state, "attempts": "0"})
        pipe.zadd(Key.EXPIRY, {mission: 0})
    pipe.execute()
    (honest,) = ledger.admit([Admission(new_mission_id(), b"u", 0)], "app")
    everything.round()
    everything.round()
    assert ledger.status(honest.id).reason is Reason.EXPIRED


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_no_unfinished_mission_fills_nobodys_queue(
    client: redis.Redis, settings: Settings, *, ended: bool
) -> None:
    ledger = Ledger(client, settings.model_copy(update={"queue_limit": 1000}))
    everything, ids = Everything(client, ledger, settings), [new_mission_id() for _ in range(3000)]
    (honest,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    for mission in ids if ended else ():
        client.hset(entry_key(mission), mapping={"state": "succeeded", "attempts": "1"})
    client.zadd(Key.OPEN, dict.fromkeys(ids, 1))
    another = Admission(new_mission_id(), b"u", 60)
    assert ledger.admit([another], "app")[0].refusal is Reason.QUEUE_FULL
    for _ in range(3):
        everything.round()
    assert ledger.admit([another], "app")[0].refusal is None
    assert client.zscore(Key.OPEN, honest.id)


def test_a_running_mission_that_is_too_old_keeps_its_lease(everything: Everything) -> None:
    ledger = everything.ledger
    (mission,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    (claim,) = ledger.claim(1, 60).claims
    everything.client.zadd(Key.EXPIRY, {mission.id: 0})
    everything.round()
    assert everything.client.zscore(Key.EXPIRY, mission.id) == everything.client.zscore(Key.LEASES, mission.id)
    assert ledger.commit([Commit(mission.id, claim.token, State.SUCCEEDED, secrets=0)], 60) == [State.SUCCEEDED]


def test_a_running_mission_that_nobody_holds_expires(everything: Everything) -> None:
    ledger = everything.ledger
    (mission,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    ledger.claim(1, 60)
    everything.client.zrem(Key.LEASES, mission.id)
    everything.client.zadd(Key.EXPIRY, {mission.id: 0})
    everything.round()
    assert ledger.status(mission.id).reason is Reason.EXPIRED


@pytest.mark.parametrize("lifetime", ["", "x", "-1", "1.5", "nan", "1e400"])
def test_a_replay_by_hand_without_a_lifetime_writes_nothing(everything: Everything, lifetime: str) -> None:
    ledger, client = everything.ledger, everything.client
    (mission,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    (claim,) = ledger.claim(1, 60).claims
    ledger.release([Release(mission.id, claim.token, Reason.READ_TIMEOUT, 0)], 1)
    before = client.hgetall(entry_key(mission.id))
    with pytest.raises(DecoderError, match="replay takes a lifetime"):
        Scripts(client).run("replay", mission.id, lifetime)
    assert client.hgetall(entry_key(mission.id)) == before


def test_what_stands_in_the_place_of_a_paused_hosts_missions_stops_no_other_host(everything: Everything) -> None:
    client, ledger = everything.client, everything.ledger
    assert ledger.host_failed("host", "app", 1, 60)
    client.set(Key.DUE_OF + "host", "x")
    client.zadd(Key.DUE_HOSTS, {"host": 1})
    everything.healthy()


@pytest.mark.parametrize("key", [Key.HOSTS, Key.DUE_HOSTS])
def test_a_mission_given_back_on_a_damaged_store_is_due_once_that_is_mended(everything: Everything, key: Key) -> None:
    client, ledger = everything.client, everything.ledger
    (mission,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    (claim,) = ledger.claim(1, 60).claims
    back = [Release(mission.id, claim.token, Reason.READ_TIMEOUT, 0, host="host")]
    client.set(key, "x")
    with suppress(DecoderError):
        ledger.release(back, 3)
    ledger.mend(120, 3600)
    assert ledger.release(back, 3) == [State.RETRYING], "as a worker does until it is answered"
    assert ledger.take_due(10)[0] == [mission.id]
    assert ledger.status(mission.id).attempts == 1


def test_a_million_dead_letters_that_are_too_old_do_not_go_in_one_step(everything: Everything) -> None:
    everything.client.zadd(Key.DEAD, {f"{n:036d}": n for n in range(10 * REAP_LIMIT + 1)})
    everything.round()
    assert everything.client.zrange(Key.DEAD, 0, -1) == [f"{10 * REAP_LIMIT:036d}".encode()]
    everything.round()
    assert not everything.client.exists(Key.DEAD)


@pytest.mark.parametrize("field", ["url", "submitter"])
def test_a_mission_that_is_too_large_reaches_no_worker(everything: Everything, field: str) -> None:
    """A producer's login can write this field of an entry directly."""
    client, ledger = everything.client, everything.ledger
    ids = [one.id for one in ledger.admit([Admission(new_mission_id(), b"u", 60) for _ in range(4)], "app")]
    for mission_id in ids[:3]:
        client.hset(entry_key(mission_id), field, b"x" * 20_000)
    assert [claim.id for claim in ledger.claim(4, 60).claims] == ids[3:]
    assert client.hgetall(Key.DAMAGED) == {mission_id.encode(): field.encode() for mission_id in ids[:3]}
    with pytest.raises(DecoderError, match="admit takes no such mission"):
        ledger.admit([Admission(new_mission_id(), b"x" * 20_000, 60)], "app")


def test_the_longest_url_is_no_damage(everything: Everything) -> None:
    url = "http://a.example/".ljust(MAX_LENGTH, "x")
    mission_id = new_mission_id()
    record = UrlKeyring.parse(generate_url_key()).encrypt(url, mission_id)
    everything.ledger.admit([Admission(mission_id, record, 60)], "s" * 64)
    (claim,) = everything.ledger.claim(1, 60).claims
    assert (claim.url_record, claim.submitter) == (record, "s" * 64)


def test_an_end_that_cannot_be_counted_is_whole_all_the_same(everything: Everything) -> None:
    client, ledger = everything.client, everything.ledger
    (mission,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    (claim,) = ledger.claim(1, 60).claims
    client.set(Key.FINISHED, "x")
    assert ledger.commit([Commit(mission.id, claim.token, State.SUCCEEDED, secrets=0)], 60) == [State.SUCCEEDED]
    assert client.ttl(entry_key(mission.id)) > 0


@pytest.mark.parametrize("place", [*range(9)])
@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "1e400"])
def test_a_claim_by_hand_without_numbers_writes_nothing(everything: Everything, place: int, value: str) -> None:
    (mission,) = everything.ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    before = everything.client.hgetall(entry_key(mission.id))
    arguments: list[object] = [1, 1, 1, 60_000, 60, 1, 2, 2000, 10**12]
    arguments[place] = value
    with pytest.raises(DecoderError, match="claim takes whole numbers"):
        Scripts(everything.client).run("claim", *arguments, mission.id)
    assert everything.client.hgetall(entry_key(mission.id)) == before


@pytest.mark.parametrize("place", [5, 6, 7, 8])
@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "1e400"])
def test_a_commit_by_hand_without_numbers_writes_nothing(everything: Everything, place: int, value: str) -> None:
    (mission,) = everything.ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    (claim,) = everything.ledger.claim(1, 60).claims
    before = everything.client.hgetall(entry_key(mission.id))
    arguments: list[object] = [mission.id, claim.token, "succeeded", "", 0, 60, 1, 60_000, 1000]
    arguments[place] = value
    with pytest.raises(DecoderError, match="commit takes whole numbers"):
        Scripts(everything.client).run("commit", *arguments)
    assert everything.client.hgetall(entry_key(mission.id)) == before
