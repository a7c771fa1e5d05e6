"""The promises of each operation on a mission: the audit log records it before it begins, and it reports what it cannot do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import AuditError, InvalidMission, UnknownMission
from mission.operate.cancellation import cancel
from mission.operate.dead_letters import DeadLetters
from mission.operate.erasure import forget
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.names import Key, entry_key, result_key

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
WHY = "request 815"

Act = Callable[[str, str], object]


@pytest.fixture(params=["reveal", "forget", "cancel", "replay", "discard"])
def act(request: pytest.FixtureRequest, client: redis.Redis, settings: Settings, audit: AuditLog) -> Act:
    letters = DeadLetters(client, settings, audit)
    reader = ResultReader(client, [Identity(X25519, b"i" * 32)], audit)
    acts: dict[str, Act] = {
        "reveal": lambda mission_id, why: reader.reveal(mission_id, reason=why),
        "forget": lambda mission_id, why: forget(client, settings, audit, mission_id, why=why),
        "cancel": lambda mission_id, why: cancel(client, settings, audit, mission_id, why=why),
        "replay": lambda mission_id, why: letters.replay(mission_id, why=why),
        "discard": lambda mission_id, why: letters.discard(mission_id, why=why),
    }
    return acts[request.param]


@pytest.mark.parametrize(
    ("mission_id", "why"),
    [
        *((mission_id, WHY) for mission_id in ("", "x", "*", "0f8fad5b*", MISSION.upper(), f"{MISSION}\n")),
        *((MISSION, why) for why in ("", " \n", "x" * 501)),
    ],
)
def test_what_is_no_id_or_no_reason_is_refused_before_anything(
    act: Act, audit: AuditLog, mission_id: str, why: str
) -> None:
    with pytest.raises(InvalidMission):
        act(mission_id, why)
    assert audit.entries() == []


def test_a_mission_that_the_ledger_does_not_hold_is_named_and_on_record(act: Act, audit: AuditLog) -> None:
    with pytest.raises(UnknownMission, match=MISSION):
        act(MISSION, WHY)
    started, ended = audit.entries()
    assert (started.mission_id, started.why, started.outcome) == (MISSION, WHY, "started")
    assert ended.outcome.startswith(("unknown", "failed: no mission"))


def test_nothing_changes_when_the_start_cannot_be_recorded(act: Act, client: redis.Redis) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "dead", "url": "u", "token": 1})
    client.zadd(Key.DEAD, {MISSION: 1})
    client.set(result_key(MISSION, 1), b"sealed")
    client.set(Key.AUDIT, "not a stream")

    def stored() -> object:
        return (
            client.hgetall(entry_key(MISSION)),
            client.get(result_key(MISSION, 1)),
            client.zscore(Key.DEAD, MISSION),
            set(client.scan_iter()),
        )

    before = stored()
    with pytest.raises(AuditError):
        act(MISSION, WHY)
    assert stored() == before
