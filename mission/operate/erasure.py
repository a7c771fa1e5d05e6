"""Erasure on request: delete everything kept of one mission; the audit keeps a record of the deletion."""

from __future__ import annotations

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.errors import UnknownMission
from mission.ids import check_mission_id
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.names import result_keys
from mission.store.scripts import Scripts, as_text
from mission.units import counted

_SCAN_COUNT = 10_000


def forget(client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str, *, why: str) -> int:
    """Delete the entry and the results of a mission, whatever its state; a worker that still runs it cannot commit any more.

    This deletes every sealed record, also one without a commit. A worker that commits later removes its own record.

    Returns:
        How many sealed records were deleted.

    Raises:
        InvalidMission: the id or the reason is not valid.
        AuditError: it could not be recorded; if the start could not, nothing was deleted.
        UnknownMission: nothing is kept of such a mission (any more).
        LedgerUnavailable: Redis does not answer; it is safe to repeat the call.
    """
    check_mission_id(mission_id)
    with recorded(audit, "forget", why=why, mission_id=mission_id) as record:
        answer = Scripts(client, settings).run("forget", mission_id, replicated=True)
        with outages():
            records = list(client.scan_iter(match=result_keys(mission_id), count=_SCAN_COUNT))
            deleted = client.delete(*records) if records else 0
        found = as_text(answer) == "forgotten" or deleted > 0
        record.outcome = f"deleted, with {counted(int(deleted), 'result')}" if found else "unknown"
    if not found:
        raise UnknownMission(mission_id)
    return int(deleted)
