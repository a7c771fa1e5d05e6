"""Repair of the ledger after somebody wrote over it: the indexes are made to say again what the missions' entries say.

On the audit's record first. Harmless where nothing is damaged, and while workers work: each page of missions is one atomic call.
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
# Only a worker knows how long leases and waits may be: times that are too far ahead are left to it.
_YEAR_SECONDS = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Args:
        keys: those that were put right, and what was wrong with each.
        indexed: missions whose places in the indexes were wrong or missing.
        damaged: missions whose entry no release could have written; each was set aside (`Key.ASIDE`).
        gone: what stood in an index and has no entry.
    """

    keys: tuple[Mended, ...]
    indexed: int
    damaged: int
    gone: int

    def as_dict(self) -> dict[str, Any]:
        """The report as the interface prints it."""
        return asdict(self) | {"keys": [asdict(mended) for mended in self.keys]}


def repair(client: redis.Redis, settings: Settings, audit: AuditLog, *, why: str, lease_seconds: float) -> Repaired:
    """Put right the keys that are of another type, and the indexes of all missions.

    Args:
        client: whose login may do it: the operator's.
        settings: how long ended missions stay.
        audit: where it is recorded before it is done.
        why: the reason that the actor gave.
        lease_seconds: after so long a running mission that has no lease goes to another worker.

    Raises:
        InvalidMission: the reason is not valid.
        AuditError: it could not be recorded; nothing was changed if it was the start.
        LedgerUnavailable: Redis does not answer or refuses; doing it again is harmless.
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
    """Each mission of the entries and of the indexes; some come more than once."""
    with outages():
        for key in client.scan_iter(match=Key.ENTRY + "*", count=_SCAN_COUNT):
            yield key.removeprefix(Key.ENTRY.encode())
        for index in (*INDEXES, Key.DAMAGED):
            of_hash = index is Key.DAMAGED
            found = client.hscan_iter(index) if of_hash else client.zscan_iter(index, count=_SCAN_COUNT)
            for member, _ in found:
                yield member
