"""Retention on a real server: each kind of data stays as long as its setting says, and nothing stays forever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.errors import ResultUnavailable, UnknownMission
from mission.model import State
from mission.operate.erasure import forget
from mission.operate.results import ResultReader
from mission.settings import Settings
from mission.store.names import Key, entry_key, result_keys
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

DAY = 86400


@pytest.fixture
def finished(mission_client: MissionClient, start_worker: StartWorker, site: SampleSite) -> Callable[..., str]:
    """Let a worker with these settings finish a mission; return its id."""

    def finish(path: str = "/letter.txt", **values: str) -> str:
        start_worker(allowed_hosts=f"127.0.0.1:{site.port}", **values)
        ticket = mission_client.enqueue(site.url + path)
        assert mission_client.wait(ticket.id, timeout=60).finished
        return ticket.id

    return finish


Finished = Callable[..., str]


def results(client: redis.Redis, mission_id: str) -> list[bytes]:
    return list(client.scan_iter(match=result_keys(mission_id)))


@pytest.mark.parametrize(
    ("settings_", "result_days", "entry_days"),
    [({}, 7, 30), ({"result_ttl": "1d", "ledger_ttl": "2d"}, 1, 2)],
    ids=["by default", "by setting"],
)
def test_a_result_and_a_finished_entry_have_their_lifetime(
    client: redis.Redis, finished: Finished, settings_: dict[str, str], result_days: int, entry_days: int
) -> None:
    mission_id = finished(**settings_)
    (result,) = results(client, mission_id)
    for key, days in ((result, result_days), (entry_key(mission_id).encode(), entry_days)):
        assert days * DAY - 300 < client.ttl(key) <= days * DAY


def test_a_failed_mission_leaves_no_result_and_an_entry_that_goes(client: redis.Redis, finished: Finished) -> None:
    mission_id = finished("/missing.txt", ledger_ttl="2d")
    assert not results(client, mission_id)
    assert 0 < client.ttl(entry_key(mission_id)) <= 2 * DAY


def test_after_its_lifetime_a_result_is_gone_and_its_entry_still_says_how_it_went(
    client: redis.Redis, finished: Finished, reader: ResultReader, mission_client: MissionClient
) -> None:
    mission_id = finished(result_ttl="1s")
    wait_for(lambda: not results(client, mission_id), what="the result to go")
    with pytest.raises(ResultUnavailable, match="expired"):
        reader.reveal(mission_id, reason="a test")
    assert mission_client.status(mission_id).state is State.SUCCEEDED


def test_after_its_lifetime_an_entry_is_gone(
    client: redis.Redis, finished: Finished, mission_client: MissionClient
) -> None:
    mission_id = finished(ledger_ttl="3s", result_ttl="3s")
    wait_for(lambda: not client.exists(entry_key(mission_id)), what="the entry to go")
    with pytest.raises(UnknownMission):
        mission_client.status(mission_id)


def test_nothing_of_a_finished_mission_stays_for_ever(
    client: redis.Redis, finished: Finished, mission_client: MissionClient
) -> None:
    """Assert that every key that names it, anywhere on the server, expires or is gone."""
    mission_id = finished()
    named = [key for key in client.scan_iter() if mission_id.encode() in key]
    assert named
    assert all(client.ttl(key) > 0 for key in named)
    for key in client.scan_iter(_type="zset"):
        assert client.zscore(key, mission_id) is None, key


def test_what_is_told_of_its_end_goes_as_its_entry_does(client: redis.Redis, finished: Finished) -> None:
    finished(ledger_ttl="2s")
    assert client.xlen(Key.OUTCOMES) == 1
    wait_for(lambda: client.xlen(Key.OUTCOMES) == 0, what="the outcome to go")


def test_audit_entries_go_by_the_auditors_setting_alone(client: redis.Redis) -> None:
    audit = AuditLog(client, Actor("reader", "anna", "desk-1"), emit=lambda line: None)
    audit.append("reveal", mission_id=None, key_id=None, why="a test", outcome="started")
    wait_for(lambda: audit.trim(0.2, why="a test"), what="the entry to be old")
    assert [entry.action for entry in audit.entries()] == ["trim"]
    assert audit.verify() == []


def test_the_audit_keeps_a_year_by_default(settings: Settings) -> None:
    assert settings.audit_ttl == 365 * DAY


def test_what_is_forgotten_on_request_is_gone_and_on_record(
    client: redis.Redis, settings: Settings, finished: Finished, mission_client: MissionClient
) -> None:
    mission_id = finished()
    audit = AuditLog(client, emit=lambda line: None)
    assert forget(client, settings, audit, mission_id, why="request 4711") == 1
    named = [key for key in client.scan_iter() if mission_id.encode() in key]
    assert not named
    assert not client.xlen(Key.OUTCOMES)
    assert [entry.action for entry in audit.entries(mission_id=mission_id)] == ["forget", "forget"]
    with pytest.raises(UnknownMission):
        mission_client.status(mission_id)
