from __future__ import annotations

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import InvalidMission, UnknownMission
from mission.ids import new_mission_id
from mission.model import Claim, Reason, State
from mission.operate.cancellation import cancel
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key
from tests.claims import claim_these

WHY = "the list was last month's"


@pytest.fixture
def mission_id(ledger: Ledger) -> str:
    return ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")[0].id


def claim(ledger: Ledger, mission_id: str) -> Claim:
    return claim_these(ledger, [mission_id], 1, 60).claims[0]


@pytest.mark.parametrize("waits", [State.QUEUED, State.RETRYING])
def test_a_mission_that_waits_ends_in_a_state_of_its_own_and_is_never_worked(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str, waits: State
) -> None:
    if waits is State.RETRYING:
        held = claim(ledger, mission_id)
        ledger.release([Release(mission_id, held.token, Reason.HOST_BUSY, 0.0, uses_attempt=False, host="h")], 5)
    assert cancel(client, settings, audit, mission_id, why=WHY) == State.CANCELLED
    status = ledger.status(mission_id)
    assert (status.state, status.reason, status.finished) == (State.CANCELLED, Reason.CANCELLED, True)
    assert (status.put_off, status.next_try_at) == (None, None)
    assert ledger.take_due(10) == ([], False)
    assert claim_these(ledger, [mission_id], 1, 60).claims == []
    stats = ledger.stats()
    assert (stats.cancelled, stats.queued, stats.retrying, stats.oldest_seconds) == (1, 0, 0, 0)
    assert client.zcard(Key.OPEN) == client.zcard(Key.EXPIRY) == 0
    assert not client.hexists(entry_key(mission_id), "url"), "what is no longer needed is deleted"
    assert client.ttl(entry_key(mission_id)) > 0
    assert [(entry.action, entry.mission_id, entry.why, entry.outcome) for entry in audit.entries()] == [
        ("cancel", mission_id, WHY, "started"),
        ("cancel", mission_id, WHY, "cancelled"),
    ]


def test_to_cancel_it_again_is_harmless(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str
) -> None:
    for _ in range(2):
        assert cancel(client, settings, audit, mission_id, why=WHY) == State.CANCELLED
    assert ledger.stats().cancelled == 1


def test_what_runs_or_has_ended_stays_as_it_is(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str
) -> None:
    held = claim(ledger, mission_id)
    assert cancel(client, settings, audit, mission_id, why=WHY) == State.RUNNING
    ledger.commit([Commit(mission_id, held.token, State.SUCCEEDED, None, 0)], 60)
    assert cancel(client, settings, audit, mission_id, why=WHY) == State.SUCCEEDED
    assert ledger.status(mission_id).state is State.SUCCEEDED
    assert [entry.outcome for entry in audit.entries()][1::2] == ["not cancelled: running", "not cancelled: succeeded"]


def test_the_holder_of_an_earlier_lease_changes_nothing_any_more(
    ledger: Ledger, client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str
) -> None:
    held = claim(ledger, mission_id)
    ledger.release([Release(mission_id, held.token, Reason.READ_TIMEOUT, 0.0)], 5)
    cancel(client, settings, audit, mission_id, why=WHY)
    assert ledger.commit([Commit(mission_id, held.token, State.SUCCEEDED, None, 0)], 60) == [None]
    assert ledger.release([Release(mission_id, held.token, Reason.READ_TIMEOUT, 0.0)], 5) == [None]
    assert ledger.status(mission_id).state is State.CANCELLED


def test_what_there_is_not_is_unknown_and_a_reason_is_wanted(
    client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str
) -> None:
    with pytest.raises(UnknownMission):
        cancel(client, settings, audit, new_mission_id(), why=WHY)
    client.delete(entry_key(mission_id))
    client.set(entry_key(mission_id), "a string in place of the entry")
    with pytest.raises(UnknownMission):
        cancel(client, settings, audit, mission_id, why=WHY)
    for bad in (("x", WHY), (mission_id, " ")):
        with pytest.raises(InvalidMission):
            cancel(client, settings, audit, bad[0], why=bad[1])
