"""Repair of an overwritten ledger: rebuild the indexes from the missions' entries.

The audit log records it first. It is safe without damage, and while workers run: each page of missions is one atomic call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.settings import Settings
from mission.store.changes import Mended
from mission.store.connection import outages
from mission.store.ledger import ASIDE_SECONDS, Ledger
from mission.store.names import INDEXES, Key
from mission.store.scripts import Scripts, as_text

_PAGE = 500
_SCAN_COUNT = 1000
# Only a worker knows the longest leases and waits: it corrects times that are too far ahead.
_YEAR_SECONDS = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Args:
        keys: the repaired keys, and what was wrong with each.
        indexed: missions whose index entries were wrong or missing.
        damaged: missions whose entry no release could have written; each was set aside (`Key.ASIDE`).
        gone: ids in an index that have no entry.
    """

    keys: tuple[Mended, ...]
    indexed: int
    damaged: int
    gone: int

    def as_dict(self) -> dict[str, Any]:
        """The report as printed by the command line."""
        return asdict(self) | {"keys": [asdict(mended) for mended in self.keys]}


def repair(client: redis.Redis, settings: Settings, audit: AuditLog, *, why: str, lease_seconds: float) -> Repaired:
    """Repair keys of another type, and the indexes of all missions.

    Args:
        client: with the operator's login.
        settings: how long ended missions are kept.
        audit: records the repair before it starts.
        why: the actor's reason.
        lease_seconds: after this time, a running mission without a lease goes to another worker.

    Raises:
        InvalidMission: the reason is not valid.
        AuditError: it could not be recorded; if the start could not, nothing was changed.
        LedgerUnavailable: Redis does not answer or refuses; it is safe to repeat the call.
    """
    scripts, done = Scripts(client, settings), Counter[str]()
    ends = (ASIDE_SECONDS, max(1, round(settings.ledger_ttl)), round(lease_seconds * 1000))
    with recorded(audit, "repair", why=why) as record:
        keys = tuple(Ledger(client, settings).mend(_YEAR_SECONDS, _YEAR_SECONDS))
        ids = _ids(client)
        while page := list(islice(ids, _PAGE)):
            done.update(map(as_text, scripts.run("reindex", *ends, *page)))
        repaired = Repaired(keys, done["indexed"], done["damaged"], done["gone"])
        record.outcome = (
            f"{len(keys)} keys, {repaired.indexed} indexed, {repaired.damaged} damaged, {repaired.gone} gone"
        )
    return repaired


def _ids(client: redis.Redis) -> Iterator[bytes]:
    """The ids of all entries and indexes; some repeat."""
    with outages():
        for key in client.scan_iter(match=Key.ENTRY + "*", count=_SCAN_COUNT):
            yield key.removeprefix(Key.ENTRY.encode())
        for index in (*INDEXES, Key.DAMAGED):
            of_hash = index is Key.DAMAGED
            found = client.hscan_iter(index) if of_hash else client.zscan_iter(index, count=_SCAN_COUNT)
            for member, _ in found:
                yield member
