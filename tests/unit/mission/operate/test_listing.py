from __future__ import annotations

import pytest
import redis

from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.operate.listing import Selection, find_missions
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key
from tests.claims import claim_these

HOUR = 3600


@pytest.fixture
def missions(ledger: Ledger, client: redis.Redis) -> dict[str, str]:
    """Missions by state, one for each state except `cancelled`; each is an hour older than the one before."""
    ids = {state.value: new_mission_id() for state in State if state is not State.CANCELLED}
    for name, mission_id in ids.items():
        ledger.admit(
            [Admission(mission_id, b"u", 10 * HOUR)], "odd" if name in ("queued", "dead") else "even", ids["queued"]
        )
    claims = {claim.id: claim.token for claim in claim_these(ledger, list(ids.values())[1:], 9, 60).claims}
    token = {name: claims.get(mission_id, 0) for name, mission_id in ids.items()}
    ledger.release([Release(ids["retrying"], token["retrying"], Reason.READ_TIMEOUT, 30)], 5)
    ledger.release([Release(ids["dead"], token["dead"], Reason.READ_TIMEOUT, 0)], 1)
    ledger.commit([Commit(ids[name], token[name], State(name)) for name in ("succeeded", "failed")], 60)
    for age, mission_id in enumerate(ids.values()):
        submitted = client.time()[0] - age * HOUR
        client.hset(entry_key(mission_id), "submitted_at", submitted * 1000)
        client.zadd(Key.OPEN, {mission_id: submitted * 1000}, xx=True)
    return ids


def states(
    client: redis.Redis, settings: Settings, *chosen: State, limit: int = 50, batch_id: str | None = None, **how: object
) -> list[str]:
    selection = Selection(chosen, **how) if chosen or how else Selection()  # type: ignore[arg-type]  # the test's own
    return [str(one.status.state) for one in find_missions(client, settings, selection, batch_id=batch_id, limit=limit)]


def test_those_that_are_not_finished_come_the_newest_first(
    client: redis.Redis, settings: Settings, missions: dict[str, str]
) -> None:
    assert states(client, settings) == ["queued", "running", "retrying"]
    assert states(client, settings, limit=1) == ["queued"]


def test_each_state_is_found_in_an_index_or_without(
    client: redis.Redis, settings: Settings, missions: dict[str, str]
) -> None:
    for name, mission_id in missions.items():
        (found,) = find_missions(client, settings, Selection([State(name)]), limit=50)
        assert (found.status.id, found.status.state) == (mission_id, name)
    assert states(client, settings, *State) == list(missions)
    assert states(client, settings, State.DEAD, State.QUEUED) == ["queued", "dead"]
    assert states(client, settings, *State, limit=2) == ["queued", "running"]


def test_they_are_chosen_by_submitter_and_age(
    client: redis.Redis, settings: Settings, missions: dict[str, str]
) -> None:
    assert states(client, settings, *State, submitter="odd") == ["queued", "dead"]
    assert states(client, settings, *State, at_least_seconds=1.5 * HOUR) == ["retrying", "succeeded", "failed", "dead"]
    assert states(client, settings, State.RUNNING, State.QUEUED, at_least_seconds=0.5 * HOUR) == ["running"]
    assert states(client, settings, *State, at_most_seconds=1.5 * HOUR) == ["queued", "running"]
    assert states(client, settings, State.RETRYING, at_most_seconds=1.5 * HOUR) == []
    assert states(client, settings, State.DEAD, at_most_seconds=1.5 * HOUR) == [], "it died just now, and is old"


def test_a_batch_has_its_own(client: redis.Redis, settings: Settings, missions: dict[str, str], ledger: Ledger) -> None:
    ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
    batch_id = missions["queued"]
    assert states(client, settings, *State, batch_id=batch_id) == list(missions)
    assert states(client, settings, State.FAILED, batch_id=batch_id) == ["failed"]
    assert states(client, settings, *State, batch_id=new_mission_id()) == []


def test_a_backlog_is_not_read_to_its_end_for_a_few(
    client: redis.Redis, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.operate.listing._PAGE", 10)
    for _ in range(5):
        ledger.admit([Admission(new_mission_id(), b"u", 60) for _ in range(10)], "app")
    assert len(states(client, settings)) == 50
    for one in find_missions(client, settings, Selection(), limit=30):
        client.delete(entry_key(one.status.id))
    assert len(states(client, settings)) == 20
    assert len(states(client, settings, limit=15)) == 15


def test_a_mission_that_stands_in_two_indexes_is_told_once(
    client: redis.Redis, settings: Settings, missions: dict[str, str]
) -> None:
    client.zadd(Key.OPEN, {missions["dead"]: client.time()[0] * 1000})
    assert states(client, settings, State.DEAD, State.QUEUED) == ["queued", "dead"]


def test_what_a_stranger_wrote_ends_no_list(client: redis.Redis, settings: Settings, missions: dict[str, str]) -> None:
    client.zadd(Key.OPEN, {"no id": 1e15, "\x1b[2J": 1})
    client.set(entry_key(new_mission_id()), "x")
    client.hset(entry_key(missions["queued"]), "submitter", "\x1b[2J")
    found = find_missions(client, settings, Selection(list(State)), limit=50)
    assert [one.submitter for one in found][:2] == ["unreadable", "even"]
    assert len(found) == len(missions)
