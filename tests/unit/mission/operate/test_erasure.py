from __future__ import annotations

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import UnknownMission
from mission.ids import new_mission_id
from mission.model import Claim, Reason, State
from mission.operate.erasure import forget
from mission.operate.repair import repair
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import entry_key, result_key
from mission.store.scripts import Scripts
from mission.units import counted
from tests.claims import claim_these

WHY = "request 815"


def admit(ledger: Ledger) -> str:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    return answer.id


def claim(ledger: Ledger, mission_id: str) -> Claim:
    return claim_these(ledger, [mission_id], 1, 60).claims[0]


def commit(ledger: Ledger, held: Claim) -> State | None:
    return ledger.commit([Commit(held.id, held.token, State.SUCCEEDED, None, 1, b"sealed")], 60)[0]


def bring_to(ledger: Ledger, state: State) -> str:
    mission_id = admit(ledger)
    if state is State.QUEUED:
        return mission_id
    held = claim(ledger, mission_id)
    if state is State.SUCCEEDED:
        commit(ledger, held)
    elif state is State.FAILED:
        ledger.commit([Commit(mission_id, held.token, State.FAILED, Reason.TLS_FAILURE)], 60)
    elif state is State.CANCELLED:
        ledger.release([Release(mission_id, held.token, Reason.READ_TIMEOUT, 0)], 5)
        Scripts(ledger.client).run("cancel", mission_id, 60)
    elif state is not State.RUNNING:
        ledger.release([Release(mission_id, held.token, Reason.READ_TIMEOUT, 0)], 5 if state is State.RETRYING else 1)
    return mission_id


def places(client: redis.Redis, mission_id: str) -> set[bytes]:
    """Where a mission's id is still stored: its own keys, and the indexes that contain it."""
    own = set(client.scan_iter(match=f"*{mission_id}*"))
    return own | {key for key in client.scan_iter(_type="zset") if client.zscore(key, mission_id) is not None}


@pytest.mark.parametrize("state", list(State))
def test_nothing_of_a_mission_is_left_whatever_its_state_but_that_it_went(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog, state: State
) -> None:
    mission_id = bring_to(ledger, state)
    assert ledger.status(mission_id).state is state
    assert places(client, mission_id)
    results = forget(client, settings, audit, mission_id, why=WHY)
    assert results == (1 if state is State.SUCCEEDED else 0)
    assert places(client, mission_id) == set()
    with pytest.raises(UnknownMission):
        forget(client, settings, audit, mission_id, why=WHY)
    assert [(entry.action, entry.mission_id, entry.why, entry.outcome) for entry in audit.entries()] == [
        ("forget", mission_id, WHY, "started"),
        ("forget", mission_id, WHY, f"deleted, with {counted(results, 'result')}"),
        ("forget", mission_id, WHY, "started"),
        ("forget", mission_id, WHY, "unknown"),
    ]


def test_other_missions_stay(ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog) -> None:
    gone, stays = bring_to(ledger, State.SUCCEEDED), bring_to(ledger, State.SUCCEEDED)
    before = places(client, stays)
    forget(client, settings, audit, gone, why=WHY)
    assert places(client, stays) == before


def test_a_record_that_no_commit_stands_for_goes_as_well(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    """A previous release, or a compromised worker, wrote it."""
    mission_id = bring_to(ledger, State.SUCCEEDED)
    client.set(result_key(mission_id, 1), b"orphan")
    assert forget(client, settings, audit, mission_id, why=WHY) == 2


def test_a_worker_that_has_it_in_hand_cannot_commit_it(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    held = claim(ledger, admit(ledger))
    forget(client, settings, audit, held.id, why=WHY)
    assert commit(ledger, held) is None
    assert client.exists(entry_key(held.id)) == 0


def test_what_is_forgotten_while_it_is_worked_leaves_no_result(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    held = claim(ledger, admit(ledger))
    forget(client, settings, audit, held.id, why=WHY)
    commit(ledger, held)
    assert places(client, held.id) == set()


def test_a_result_whose_entry_is_gone_already_is_deleted(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    mission_id = bring_to(ledger, State.SUCCEEDED)
    client.delete(entry_key(mission_id))
    assert forget(client, settings, audit, mission_id, why=WHY) == 1


def test_what_a_repair_set_aside_of_it_goes_as_well(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    mission_id = admit(ledger)
    client.hdel(entry_key(mission_id), "submitted_at")
    assert repair(client, settings, audit, why=WHY, lease_seconds=60).damaged == 1
    assert places(client, mission_id)
    forget(client, settings, audit, mission_id, why=WHY)
    assert places(client, mission_id) == set()
