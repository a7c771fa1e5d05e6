"""Admission with data that no release writes, and with calls by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from mission.errors import LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Claim, Reason, State
from mission.store.changes import Admission, Commit, Known
from mission.store.ledger import Ledger
from mission.store.messages import wake_ups
from mission.store.names import QUEUE, Key, batch_key, entry_key, result_key
from mission.store.scripts import Scripts
from tests.claims import claim_these
from worker.settings import WorkerSettings

OWN, OTHER = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"
GOOD = [OWN, "k", "aa", 1]

# Values of other types that a key may have.
OTHERS: dict[str, Callable[[redis.Redis, str], object]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.lpush(key, "x"),
    "zset": lambda client, key: client.zadd(key, {"x": 1}),
}
each_type = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


def keyed(print_: str = "aa", mission_id: str = OWN) -> Admission:
    return Admission(mission_id, b"u", 100, [Known(mission_id, "k", print_, alone=True)])


@each_type
def test_what_stands_in_the_place_of_an_entry_is_a_conflict_and_stays(
    other: Callable[[redis.Redis, str], object], ledger: Ledger, client: redis.Redis
) -> None:
    other(client, entry_key(OWN))
    before = client.dump(entry_key(OWN))
    answers = ledger.admit([keyed(), Admission(new_mission_id(), b"u", 100)], "app")
    assert [answer.refusal for answer in answers] == [Reason.IDEMPOTENCY_CONFLICT, None]
    assert client.dump(entry_key(OWN)) == before


@each_type
def test_a_commit_to_what_is_no_entry_is_stale_and_takes_its_record_back(
    other: Callable[[redis.Redis, str], object], ledger: Ledger, client: redis.Redis
) -> None:
    ids = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(2)], "app")]
    claims: list[Claim] = claim_these(ledger, ids, 2, 60.0).claims
    client.delete(entry_key(ids[0]))
    other(client, entry_key(ids[0]))
    commits = [Commit(one.id, one.token, State.SUCCEEDED, None, 0, b"r") for one in claims]
    assert ledger.commit(commits, 60) == [None, State.SUCCEEDED], "its neighbours are settled"
    assert not client.exists(result_key(ids[0], claims[0].token))


def test_of_what_ended_no_more_is_kept_than_is_asked_for_again(ledger: Ledger, client: redis.Redis) -> None:
    ledger.admit([keyed()], "app")
    (claim,) = claim_these(ledger, [OWN], 1, 60.0).claims
    ledger.commit([Commit(OWN, claim.token, State.SUCCEEDED, None, 0)], 60)
    fields = {
        b"v",
        b"state",
        b"submitter",
        b"submitted_at",
        b"attempts",
        b"token",
        b"reason",
        b"secrets",
        b"finished_at",
    }
    assert set(client.hgetall(entry_key(OWN))) == fields | {b"print_key", b"print"}


@pytest.mark.parametrize("fields", [{"print_key": "k"}, {"print": "aa"}, {"print_key": "other", "print": "aa"}, {}])
def test_an_entry_whose_fingerprint_cannot_be_told_is_a_conflict(
    fields: dict[str, Any], ledger: Ledger, client: redis.Redis
) -> None:
    client.hset(entry_key(OWN), mapping={"state": "queued"} | fields)
    assert ledger.admit([keyed()], "app")[0].refusal is Reason.IDEMPOTENCY_CONFLICT


@pytest.mark.parametrize(
    "idempotency",
    [
        "x",
        "[1]",
        "7",
        "null",
        "[" * 4000,
        json.dumps({}),
        json.dumps([[]]),
        json.dumps([{}]),
        json.dumps([[OTHER, *GOOD[1:]], GOOD]),
        json.dumps([GOOD, "x"]),
        json.dumps([GOOD, [{}, *GOOD[1:]]]),
        # Each is looked up: 1,024 missions with 1,300 each blocked the server for 1.4 s.
        json.dumps([GOOD, *([["", "", "", 0]] * 32)]),
        json.dumps([[OWN, "k", 7, 1]]),
        json.dumps([[OWN, None, "aa", 1]]),
        json.dumps([[OWN]]),
    ],
)
def test_a_call_that_no_producer_makes_is_refused_before_anything_is_written(
    idempotency: str, ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match="admit takes no such mission"):
        call(client, settings, new_mission_id(), "u", 1000, "", OWN, "u", 1000, idempotency)
    assert ledger.stats().queued == 0


@pytest.mark.parametrize("lifetime", ["", "x", "nan", "inf", "-1", "1.5", "1e14", "1e300"])
def test_a_lifetime_that_is_none_is_refused_as_well(
    lifetime: str, ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match="admit takes no such mission"):
        call(client, settings, OWN, "u", lifetime, "")
    assert ledger.stats().queued == 0


@pytest.mark.parametrize(
    ("submitter", "count", "refusal"),
    [("s" * 65, 1, "a submitter of 64 characters at most"), ("app", 1025, "1024 missions at most")],
)
def test_a_call_that_is_too_large_is_refused_as_well(
    submitter: str, count: int, refusal: str, ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match=refusal):
        call(client, settings, *(OWN, "u", 1000, "") * count, submitter=submitter)
    assert ledger.stats().queued == 0


@pytest.mark.parametrize(
    ("messages", "refusal"),
    [
        ((16, 1025), "1024 messages at most"),
        ((16, "x"), "1024 messages at most"),
        ((0, 1, "m"), "1024 messages at most"),
        (("", 1, "m"), "1024 messages at most"),
        ((16, 1, "m" * 16385), "messages of 16 KiB at most"),
        ((16, 2, "m", "m" * 1024**2), "messages of 16 KiB at most"),
    ],
)
def test_messages_that_no_producer_sends_are_refused_as_well(
    messages: tuple[Any, ...], refusal: str, client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match=refusal):
        call(client, settings, OWN, "u", 1000, "", messages=messages)
    assert client.keys() == []


def test_the_largest_message_is_let_through(client: redis.Redis, settings: WorkerSettings) -> None:
    (message,) = wake_ups([OWN] * 256, per_message=256)
    call(client, settings, OWN, "u", 1000, "", messages=(256, 1, message))
    assert client.lrange(QUEUE, 0, -1) == [message]


ODD = ["", "x", "nan", "inf", "-1", "1e300"]


@pytest.mark.parametrize(
    "limits",
    [
        *((odd, 5, 60_000, 0) for odd in ODD),
        *((10, odd, 60_000, 0) for odd in ODD),
        *((10, 5, odd, 0) for odd in [*ODD, "0"]),
        *((10, 5, 60_000, odd) for odd in ODD),
    ],
)
def test_limits_that_are_none_are_refused_before_anything_is_written(
    limits: tuple[Any, ...], client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match="admit takes no such limits"):
        call(client, settings, OWN, "u", 1000, "", limits=limits)
    assert client.keys() == []


@pytest.mark.parametrize(
    "overwrite", [lambda c: c.hset(Key.REFUSALS, "queue_full", 2**63 - 1), lambda c: c.set(Key.REFUSALS, "x")]
)
def test_a_refusal_that_cannot_be_counted_leaves_no_admission_half_done(
    overwrite: Callable[[redis.Redis], object], client: redis.Redis
) -> None:
    overwrite(client)
    ledger = Ledger(client, WorkerSettings.from_env(queue_limit=1))
    answers = ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(2)], "app")
    assert [answer.refusal for answer in answers] == [None, Reason.QUEUE_FULL]


def call(
    client: redis.Redis,
    settings: WorkerSettings,
    *missions: Any,
    submitter: str = "app",
    limits: tuple[Any, ...] = (10_000, 0, 0, 0),
    messages: tuple[Any, ...] = (16, 0),
    batch: tuple[Any, ...] = ("", 60),
) -> None:
    per_message, *rest = messages
    Scripts(client, settings).run("admit", 1, submitter, *limits, per_message, *batch, *rest, *missions)


@pytest.mark.parametrize("batch", [("x", 60), (OWN * 2, 60), (OWN, "x"), (OWN, ""), (OWN, -1), (OWN, "9" * 11)])
def test_a_batch_that_is_none_is_refused_before_anything_is_written(
    batch: tuple[Any, ...], client: redis.Redis, settings: WorkerSettings
) -> None:
    with pytest.raises(LedgerUnavailable, match="admit takes no such batch"):
        call(client, settings, OWN, "u", 1000, "", batch=batch)
    assert client.keys() == []


@each_type
def test_missions_are_admitted_where_the_batch_is_of_another_type(
    other: Callable[[redis.Redis, str], object], ledger: Ledger, client: redis.Redis
) -> None:
    other(client, batch_key(OTHER))
    assert ledger.admit([Admission(OWN, b"u", 100)], "app", OTHER)[0].state is State.QUEUED


def test_a_batch_holds_the_same_missions_once_and_goes_with_the_ledger(ledger: Ledger, client: redis.Redis) -> None:
    ids = [new_mission_id() for _ in range(3)]
    for _ in range(2):  # missions admitted again are duplicates, and no longer listed twice
        ledger.admit([Admission(id_, b"u", 100) for id_ in ids], "app", OTHER)
    assert list(ledger.batch(OTHER)) == [ids]
    assert 0 < client.ttl(batch_key(OTHER)) <= 31 * 86400 + 1
    client.hset(batch_key(OTHER), "x", "what is no id, and no 36 characters of one " * 3)
    assert sorted(map(len, ledger.batch(OTHER))) == [0, 3]


@pytest.mark.parametrize("arrival", ["x", "nan", "inf", "-inf", "1e300", "9" * 30, ""])
def test_a_quota_that_holds_no_time_starts_anew(arrival: str, client: redis.Redis, settings: WorkerSettings) -> None:
    client.set(Key.QUOTA + "app", arrival)
    ledger = Ledger(client, settings.model_copy(update={"quota": "2/hour"}))
    answers = ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(3)], "app")
    assert [answer.refusal for answer in answers] == [None, None, Reason.QUOTA_EXCEEDED]


def test_a_quota_of_another_type_starts_anew(client: redis.Redis, settings: WorkerSettings) -> None:
    client.lpush(Key.QUOTA + "app", "x")
    ledger = Ledger(client, settings.model_copy(update={"quota": "2/hour"}))
    answers = ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(3)], "app")
    assert [answer.refusal for answer in answers] == [None, None, Reason.QUOTA_EXCEEDED]
