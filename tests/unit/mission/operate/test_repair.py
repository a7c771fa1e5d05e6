"""Repair of the ledger: what it finds, what it leaves unchanged, and its audit record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import InvalidMission
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.operate.repair import Repaired, repair
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key
from mission.store.scripts import Scripts
from tests.claims import claim_these

Repair = Callable[[], Repaired]
INDEXES = (Key.QUEUED, Key.LEASES, Key.DUE, Key.OPEN, Key.EXPIRY, Key.DEAD)


@pytest.fixture
def run(client: redis.Redis, settings: Settings, audit: AuditLog) -> Repair:
    return lambda: repair(client, settings, audit, why="a test", lease_seconds=60)


@pytest.fixture
def missions(ledger: Ledger) -> dict[str, str]:
    """Missions by state, one for each; `discarded` is dead without its URL."""
    ids = {name: new_mission_id() for name in (*State, "discarded")}
    ledger.admit([Admission(mission_id, b"u", 60) for mission_id in ids.values()], "app")
    claims = {
        claim.id: claim
        for claim in claim_these(ledger, [ids[name] for name in ids if name != State.QUEUED], 9, 60).claims
    }
    token = {name: claims[ids[name]].token for name in ids if name != State.QUEUED}
    ledger.release([Release(ids["retrying"], token["retrying"], Reason.READ_TIMEOUT, 30)], 5)
    ledger.release([Release(ids[name], token[name], Reason.READ_TIMEOUT, 0) for name in ("dead", "discarded")], 1)
    ledger.commit([Commit(ids[name], token[name], State(name)) for name in ("succeeded", "failed")], 60)
    ledger.release([Release(ids["cancelled"], token["cancelled"], Reason.READ_TIMEOUT, 30)], 5)
    Scripts(ledger.client).run("cancel", ids["cancelled"], 60)
    ledger.client.hdel(entry_key(ids["discarded"]), "url")
    ledger.client.zrem(Key.DEAD, ids["discarded"])
    return ids


def stored(client: redis.Redis) -> dict[Any, Any]:
    """Everything in the ledger except the audit, with whether each key expires."""
    kept: dict[Any, Any] = {}
    for key in client.scan_iter():
        read: dict[Any, Callable[[Any], Any]] = {
            b"hash": client.hgetall,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            b"string": client.get,
            b"stream": client.xrange,
        }
        if key not in (Key.AUDIT.encode(), Key.REAPER.encode()):
            kept[key] = (read[client.type(key)](key), client.ttl(key) > 0)
    return kept


def test_a_healthy_ledger_is_left_as_it_is(client: redis.Redis, run: Repair, missions: dict[str, str]) -> None:
    before = stored(client)
    assert run() == Repaired((), 0, 0, 0)
    assert stored(client) == before


def test_indexes_that_are_gone_are_built_anew(client: redis.Redis, run: Repair, missions: dict[str, str]) -> None:
    before = stored(client)
    client.delete(*INDEXES)
    assert run().indexed == 4
    after = stored(client)
    for index in INDEXES:
        assert [member for member, _ in after[index.encode()][0]] == [member for member, _ in before[index.encode()][0]]
    assert run() == Repaired((), 0, 0, 0)


def test_missions_whose_indexes_were_written_over_go_through(
    client: redis.Redis, ledger: Ledger, run: Repair, missions: dict[str, str]
) -> None:
    for index in INDEXES:
        client.delete(index)
        client.set(index, "x")
    report = run()
    assert {mended.key for mended in report.keys} >= set(INDEXES)
    client.zadd(Key.DUE, {missions["retrying"]: 1})
    client.zadd(Key.LEASES, {missions["running"]: 1})
    client.delete(Key.REAPER)
    found = ledger.reap(5, 2)
    assert {*found.again, *ledger.take_due(10)[0]} >= {missions["running"], missions["retrying"]}
    waiting = [missions[name] for name in ("queued", "running", "retrying")]
    assert len(claim_these(ledger, waiting, 3, 60).claims) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda client, key: client.set(key, "x"),
        lambda client, key: client.hset(key, "state", "queued"),
        lambda client, key: client.hset(key, "state", "\x1b[2J"),
        lambda client, key: client.hset(key, "submitter", "app"),
        lambda client, key: client.hset(
            key, mapping={"state": "running", "url": "u", "token": "x", "attempts": "9" * 400}
        ),
    ],
)
def test_an_entry_that_no_release_writes_is_set_aside(
    client: redis.Redis, run: Repair, missions: dict[str, str], write: Callable[[redis.Redis, str], Any]
) -> None:
    bad = new_mission_id()
    write(client, entry_key(bad))
    for index in INDEXES:
        client.zadd(index, {bad: 1})
    assert run() == Repaired((), 0, 1, 0)
    assert not client.exists(entry_key(bad))
    assert client.ttl(f"{Key.ASIDE}m:{bad}") > 0
    assert all(client.zscore(index, bad) is None for index in INDEXES)
    assert run() == Repaired((), 0, 0, 0)


def test_what_an_index_holds_without_an_entry_goes(client: redis.Redis, run: Repair, missions: dict[str, str]) -> None:
    client.zadd(Key.OPEN, {b"no id": 1, b"\xff": float("inf"), new_mission_id().encode(): 3})
    assert run() == Repaired((), 0, 0, 3)
    assert client.zcard(Key.OPEN) == 3


def test_a_state_of_a_newer_release_is_left_alone(client: redis.Redis, run: Repair) -> None:
    newer = new_mission_id()
    entry: dict[Any, Any] = dict.fromkeys(("url", "token", "attempts", "submitted_at", "expires_at"), "1")
    client.hset(entry_key(newer), mapping=entry | {"state": "paused"})
    assert run() == Repaired((), 0, 0, 0)
    assert client.exists(entry_key(newer))


def test_it_is_on_record_before_it_is_done(
    client: redis.Redis, run: Repair, audit: AuditLog, settings: Settings
) -> None:
    run()
    told = [(entry.action, entry.why, entry.outcome) for entry in audit.entries()]
    assert told == [("repair", "a test", "started"), ("repair", "a test", "0 keys, 0 indexed, 0 damaged, 0 gone")]
    with pytest.raises(InvalidMission):
        repair(client, settings, audit, why=" ", lease_seconds=60)
    assert len(audit.entries()) == 2


def test_it_harms_nothing_while_workers_work(client: redis.Redis, ledger: Ledger, run: Repair) -> None:
    ids = [new_mission_id() for _ in range(200)]
    over = threading.Event()

    def work() -> None:
        for mission_id in ids:
            ledger.admit([Admission(mission_id, b"u", 60)], "app")
            (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
            assert ledger.commit([Commit(mission_id, claim.token, State.SUCCEEDED, secrets=0)], 60) == [State.SUCCEEDED]
        over.set()

    worker = threading.Thread(target=work)
    worker.start()
    reports = [run()]
    while not over.is_set() and worker.is_alive():
        reports.append(run())
    worker.join()
    assert over.is_set()
    assert {(report.damaged, report.indexed, report.gone) for report in reports} == {(0, 0, 0)}
    assert all(ledger.status(mission_id).state is State.SUCCEEDED for mission_id in ids)
