"""Entries from a newer release or an attacker with a login: every reader gets an answer or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mission.audit.log import AuditLog
from mission.errors import DecoderError, UnknownMission
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.operate.dead_letters import DeadLetters
from mission.operate.results import ResultReader
from mission.operate.sealed_results import find_results
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.changes import Admission
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key, result_key
from mission.store.scripts import Scripts

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
FIELDS = [
    "state",
    "token",
    "url",
    "reason",
    "attempts",
    "secrets",
    "submitter",
    "submitted_at",
    "finished_at",
    "expires_at",
    "history",
    "v",
    "print_key",
]
VALUES = st.one_of(
    st.sampled_from([*State, *Reason, "paused", "1", "-1", "0", "9" * 19, "9" * 5000, "1e3", "1_0", "٣", "1:a b :c"]),
    st.binary(max_size=12),
)


@pytest.fixture
def readers(client: redis.Redis, ledger: Ledger, settings: Settings) -> dict[str, Callable[[], Any]]:
    """Every function that reads an entry, by its purpose."""
    audit = AuditLog(client, emit=lambda line: None)
    letters = DeadLetters(client, settings, audit)
    reader = ResultReader(client, [Identity(X25519, b"i" * 32)], audit)
    always = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    return {
        "status": lambda: ledger.status(MISSION).as_dict(),
        "letter": lambda: letters.get(MISSION).as_dict(),
        "letters": lambda: [letter.as_dict() for letter in letters.find()],
        "results": lambda: find_results(client, *always),
        "reveal": lambda: reader.reveal(MISSION, reason="a test"),
        "admit": lambda: ledger.admit([Admission(MISSION, b"u", 60)], "app"),
    }


@examples(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1))
def test_no_stored_value_ends_a_reader(
    client: redis.Redis, readers: dict[str, Callable[[], Any]], entry: dict[str | bytes, str | bytes]
) -> None:
    client.flushall()
    client.hset(entry_key(MISSION), mapping=entry)  # type: ignore[arg-type]  # redis-py's mapping is invariant
    client.zadd(Key.DEAD, {MISSION: 1})
    client.zadd(Key.DEAD, {b"\xff": 2})
    client.set(result_key(MISSION, 1), b"sealed")
    for read in readers.values():
        with suppress(DecoderError):
            read()


@pytest.mark.parametrize("kind", ["string", "list", "zset"])
def test_a_key_of_another_type_is_no_entry(
    client: redis.Redis, readers: dict[str, Callable[[], Any]], kind: str
) -> None:
    put: dict[str, Callable[[], Any]] = {
        "string": lambda: client.set(entry_key(MISSION), "x"),
        "list": lambda: client.lpush(entry_key(MISSION), "x"),
        "zset": lambda: client.zadd(entry_key(MISSION), {"x": 1}),
    }
    put[kind]()
    client.zadd(Key.DEAD, {MISSION: 1})
    client.set(result_key(MISSION, 1), b"sealed")
    assert readers["letters"]() == readers["results"]() == []
    for name in ("status", "letter", "reveal"):
        with pytest.raises(UnknownMission):
            readers[name]()


def test_a_state_and_a_reason_of_a_newer_release_are_told_as_they_are(
    client: redis.Redis, ledger: Ledger, readers: dict[str, Callable[[], Any]]
) -> None:
    entry: dict[Any, Any] = {
        "state": "cancelled",
        "reason": "by_hand",
        "submitted_at": "1700000000000",
        "finished_at": "1700000000001",
    }
    client.hset(entry_key(MISSION), mapping=entry)
    status = ledger.status(MISSION)
    assert (status.state, status.reason, status.finished) == ("cancelled", "by_hand", True)
    assert status.as_dict()["state"] == "cancelled"
    assert ledger.admit([Admission(MISSION, b"u", 60)], "app")[0].state == "cancelled"
    client.hset(entry_key(MISSION), mapping={"state": "dead", "url": "u"})
    assert readers["letter"]()["reason"] == "by_hand"


def test_what_no_release_writes_is_not_repeated(client: redis.Redis, ledger: Ledger) -> None:
    nonsense = "\x1b[2Jall is well"
    client.hset(entry_key(MISSION), mapping=dict.fromkeys(FIELDS, nonsense))
    status = ledger.status(MISSION)
    assert (status.state, status.reason, status.submitted_at, status.finished_at) == ("unreadable",) * 4
    assert (status.attempts, status.secrets) == (0, None)


def test_an_unfinished_mission_in_a_state_of_a_newer_release_is_not_finished(
    client: redis.Redis, ledger: Ledger
) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "paused", "submitted_at": "1700000000000"})
    assert not ledger.status(MISSION).finished


def test_counts_and_times_that_are_none_do_not_hide_the_others(client: redis.Redis, ledger: Ledger) -> None:
    client.hset(Key.REFUSALS, mapping={"by_moon": "2", "queue_full": "x", b"\xff": "1"})
    client.hset(Key.FINISHED, mapping={"succeeded": "x", "failed": "3"})
    client.hset(Key.KEYS_SEEN, mapping={"url:a": "x", "url:b": "17"})
    assert ledger.refusals()["by_moon"] == 2
    assert (ledger.stats().succeeded, ledger.stats().failed) == (0, 3)
    assert ledger.keys_seen([("url", "a"), ("url", "b")])["url", "b"] == 17
    assert ledger.keys_seen([("url", new_mission_id())])


@pytest.mark.parametrize(
    "breaker", ["x", "x y 99999999999999", "1 99999999999999 9", "", "-1 2 99999999999999 0 0 -", "1 2 3 4 5 "]
)
def test_a_breaker_that_is_none_is_forgotten(client: redis.Redis, ledger: Ledger, breaker: str) -> None:
    client.hset(Key.HOSTS, mapping={"strange.example": breaker})
    ledger.host_failed("docs.example", "app", 1, 60)
    assert set(ledger.hosts()) == {"docs.example"}
    client.hset(Key.HOSTS, mapping={"strange.example": breaker})
    assert not ledger.host_failed("strange.example", "app", 2, 60)


def test_of_a_history_without_end_the_newest_is_told(
    client: redis.Redis, readers: dict[str, Callable[[], Any]]
) -> None:
    marks = " ".join(f"{1_700_000_000_000 + n}:read_timeout" for n in range(100_000))
    entry: dict[Any, Any] = {"state": "dead", "url": "u", "history": marks}
    client.hset(entry_key(MISSION), mapping=entry)
    client.zadd(Key.DEAD, {MISSION: 1})
    (letter,) = readers["letters"]()
    assert 100 < len(letter["history"]) < 1000
    assert letter["history"][-1] == {"at": "2023-11-14T22:14:59.999Z", "reason": "read_timeout"}
    client.hset(entry_key(MISSION), mapping={"history": "x" * 1_000_000})
    assert readers["letter"]()["history"] == []


def test_what_is_no_id_is_no_letter(client: redis.Redis, readers: dict[str, Callable[[], Any]]) -> None:
    client.hset(entry_key("x"), mapping={"state": "dead", "url": "u"})
    client.zadd(Key.DEAD, {"x": 1})
    assert readers["letters"]() == []


@pytest.mark.parametrize("kind", ["string", "list", "zset"])
def test_a_key_of_another_type_is_neither_replayed_nor_discarded(
    client: redis.Redis, settings: Settings, kind: str
) -> None:
    write: dict[str, Callable[[], Any]] = {
        "string": lambda: client.set(entry_key(MISSION), "x"),
        "list": lambda: client.lpush(entry_key(MISSION), "x"),
        "zset": lambda: client.zadd(entry_key(MISSION), {"x": 1}),
    }
    write[kind]()
    letters = DeadLetters(client, settings, AuditLog(client, emit=lambda line: None))
    for act in (letters.replay, letters.discard):
        with pytest.raises(UnknownMission):
            act(MISSION, why="a test")


def test_a_result_of_another_type_is_not_replaced(client: redis.Redis) -> None:
    key = result_key(MISSION, 1)
    client.lpush(key, "x")
    assert Scripts(client).run("reseal", "x", "y", key=key) == 0
    assert client.lrange(key, 0, -1) == [b"x"]
