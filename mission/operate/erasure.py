"""Erasure on request: what is kept of one mission goes; that it went stays in the audit."""

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

_SCAN_COUNT = 10_000


def forget(client: redis.Redis, settings: Settings, audit: AuditLog, mission_id: str, *, why: str) -> int:
    """Delete entry and results of a mission, whatever its state; who still works on it cannot commit any more.

    Every sealed record goes, also one that no commit stands for. A worker's commit after this takes its own record back.

    Returns:
        How many sealed records went.

    Raises:
        InvalidMission: the id or the reason is not valid.
        AuditError: it could not be recorded; nothing was deleted if it was the start.
        UnknownMission: nothing is kept of such a mission (any more).
        LedgerUnavailable: Redis does not answer; doing it again is harmless.
    """
    check_mission_id(mission_id)
    with recorded(audit, "forget", why=why, mission_id=mission_id) as record:
        answer = Scripts(client, settings).run("forget", mission_id, replicated=True)
        with outages():
            records = list(client.scan_iter(match=result_keys(mission_id), count=_SCAN_COUNT))
            deleted = client.delete(*records) if records else 0
        found = as_text(answer) == "forgotten" or deleted > 0
        record.outcome = f"forgotten, with {deleted} results" if found else "unknown"
    if not found:
        raise UnknownMission(mission_id)
    return int(deleted)
