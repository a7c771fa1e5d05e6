from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.operate.results import ResultReader
from mission.operate.sealed_results import SealedResult, find_results
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.changes import Admission, Commit
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import entry_key, parse_result_key, result_key
from tests.claims import claim_these

DAY = datetime(2026, 5, 4, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)


def _put(client: redis.Redis, ended: datetime, *, token: int = 1, **fields: str | int) -> str:
    """Put a result into the ledger; return its mission's id."""
    mission_id = new_mission_id()
    entry: dict[Any, Any] = {
        "state": "succeeded",
        "token": token,
        "secrets": 2,
        "finished_at": round(ended.timestamp() * 1000),
    }
    client.hset(entry_key(mission_id), mapping=entry | fields)
    client.set(result_key(mission_id, token), b"sealed")
    return mission_id


def test_what_a_worker_commits_is_found_with_its_count_and_its_end(client: redis.Redis, ledger: Ledger) -> None:
    ids = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"u", 99) for _ in range(3)], "a")]
    claims = {claim.id: claim.token for claim in claim_these(ledger, ids, 3, 60).claims}
    commits = [
        Commit(ids[0], claims[ids[0]], State.SUCCEEDED, secrets=3, record=b"sealed"),
        Commit(ids[1], claims[ids[1]], State.SUCCEEDED, secrets=0, record=b"sealed"),
        Commit(ids[2], claims[ids[2]], State.FAILED, Reason.HTTP_CLIENT_ERROR),
    ]
    assert ledger.commit(commits, 60) == [commit.state for commit in commits]
    now = datetime.now(UTC)
    found = find_results(client, now - timedelta(hours=1), now + timedelta(hours=1))
    assert {result.id: result.secrets for result in found} == {ids[0]: 3, ids[1]: 0}
    assert {result.finished_at for result in found} <= {ledger.status(id_).finished_at for id_ in ids[:2]}


def test_a_day_begins_with_its_first_millisecond_and_ends_before_the_next_ones(client: redis.Redis) -> None:
    _put(client, DAY - timedelta(milliseconds=1))
    first = _put(client, DAY)
    last = _put(client, NEXT - timedelta(milliseconds=1))
    _put(client, NEXT)
    assert find_results(client, DAY, NEXT) == [
        SealedResult(first, 2, "2026-05-04T00:00:00.000Z"),
        SealedResult(last, 2, "2026-05-04T23:59:59.999Z"),
    ]


def test_times_of_any_zone_are_understood(client: redis.Redis) -> None:
    zone = timezone(timedelta(hours=9))
    inside = _put(client, datetime(2026, 5, 3, 16, tzinfo=UTC))
    _put(client, datetime(2026, 5, 4, 16, tzinfo=UTC))
    found = find_results(client, datetime(2026, 5, 4, tzinfo=zone), datetime(2026, 5, 5, tzinfo=zone))
    assert [result.id for result in found] == [inside]


def test_the_earliest_come_first_and_each_once_over_many_pages(client: redis.Redis) -> None:
    moments = [DAY + timedelta(seconds=(n * 7919) % 601) for n in range(601)]
    ids = {_put(client, moment): moment for moment in moments}
    found = find_results(client, DAY, NEXT)
    assert [result.id for result in found] == sorted(ids, key=lambda id_: (ids[id_], id_))


def test_a_result_that_was_written_too_late_to_be_committed_is_none(client: redis.Redis) -> None:
    mission_id = _put(client, DAY, token=2)
    client.set(result_key(mission_id, 1), b"of a stale holder")
    assert len(find_results(client, DAY, NEXT)) == 1
    client.delete(result_key(mission_id, 2))
    assert find_results(client, DAY, NEXT) == []


@pytest.mark.parametrize(
    "fields", [{"state": "dead"}, {"state": "x"}, {"finished_at": "x"}, {"secrets": ""}, {"token": "-1"}, {}]
)
def test_an_entry_that_is_gone_or_that_nobody_of_us_wrote_does_not_hide_the_others(
    client: redis.Redis, fields: dict[Any, Any]
) -> None:
    entry = entry_key(_put(client, DAY))
    if fields:
        client.hset(entry, mapping=fields)
    else:
        client.delete(entry)
    good = _put(client, DAY)
    assert [result.id for result in find_results(client, DAY, NEXT)] == [good]


@pytest.mark.parametrize(
    "key", ["{decoder}:r:x:1", f"{{decoder}}:r:{'-' * 36}:1", "{decoder}:r:", f"{{decoder}}:m:{'0' * 36}", "r:a:1", ""]
)
def test_what_is_no_results_key_is_none(client: redis.Redis, key: str) -> None:
    assert parse_result_key(key) is None
    if key:
        client.set(key, "x")
    assert find_results(client, DAY, NEXT) == []


@pytest.mark.server("INFO")
def test_looking_opens_nothing_and_so_records_nothing(client: redis.Redis) -> None:
    _put(client, DAY)
    audit = AuditLog(client, emit=lambda line: None)
    client.config_resetstat()
    assert len(ResultReader(client, [Identity(X25519, b"i" * 32)], audit).results(DAY, NEXT)) == 1
    assert "cmdstat_get" not in client.info("commandstats")
    assert audit.entries() == []


def test_that_redis_does_not_answer_is_said() -> None:
    with connect(Settings.from_env(redis_url="redis://127.0.0.1:1/0")) as nowhere, pytest.raises(LedgerUnavailable):
        find_results(nowhere, DAY, NEXT)
