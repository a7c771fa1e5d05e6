"""Cancellation: end a waiting mission before a worker starts it; recorded in the audit log."""

from __future__ import annotations

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.errors import UnknownMission
from mission.ids import check_mission_id
from mission.model import State
from mission.settings import Settings
from mission.store.scripts import Scripts, as_text


def cancel(client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str, *, why: str) -> str:
    """End a mission that is queued or retrying; return the state that it is in now. It is safe to repeat the call.

    A running mission continues, and an ended one stays as it is: then the state is not `cancelled`.

    Raises:
        InvalidMission: the id or the reason is not valid.
        AuditError: it could not be recorded; if the start could not, nothing was cancelled.
        UnknownMission: the ledger holds no such mission, or no longer.
        LedgerUnavailable: Redis does not answer.
    """
    check_mission_id(mission_id)
    with recorded(audit, "cancel", why=why, mission_id=mission_id) as record:
        answer = Scripts(client, settings).run("cancel", mission_id, round(settings.ledger_ttl), replicated=True)
        state = as_text(answer)
        record.outcome = state if state in (State.CANCELLED, "unknown") else f"not cancelled: {state}"
    if state == "unknown":
        raise UnknownMission(mission_id)
    return state
