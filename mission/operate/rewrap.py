"""Re-sealing: seal records of old keys to a new key, on the host that has the old identities.

Each record is replaced in one step, so an interrupted run can start again at any time: records that are already under the new key are
skipped. A record keeps its mission, its claim and its time to live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, cast

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.errors import SealError
from mission.operate.sealed_results import scan_results
from mission.seal.sealing import Identity, Recipient, RecordHeader
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.names import parse_result_key
from mission.store.scripts import Scripts

BATCH = 200


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """Counts of records: re-sealed, already under the new key, unreadable, sealed to keys of others, gone meanwhile."""

    rewrapped: int = 0
    already: int = 0
    unreadable: int = 0
    others: int = 0
    gone: int = 0


class Rewrapper:
    """Re-seals records.

    Args:
        client: a login that may read and write results, and append to the audit.
        settings: how many replicas must hold each write.
        identities: those of the old keys.
        recipient: the new key.
        audit: records the start and the end.

    Raises (every method): `LedgerUnavailable` if Redis does not answer.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        identities: Sequence[Identity],
        recipient: Recipient,
        audit: AuditLog,
    ) -> None:
        self._client = client
        self._scripts = Scripts(client, settings)
        self._identities = {identity.key_id: identity for identity in identities}
        self._recipient = recipient
        self._audit = audit

    def keys(self) -> list[str]:
        """The Redis keys of all records."""
        return list(dict.fromkeys(scan_results(self._client)))

    def rewrap(self, keys: Iterable[str], *, why: str) -> Rewrapped:
        """Re-seal these records; the audit log records it before the first one is opened.

        Raises:
            InvalidMission: the reason is not valid.
            AuditError: it could not be recorded; if the start could not, nothing was opened.
        """
        old = ",".join(key_id.hex() for key_id in self._identities)
        key_id = f"{old}>{self._recipient.key_id.hex()}"
        counts: Counter[str] = Counter()
        with recorded(self._audit, "rewrap", why=why, key_id=key_id) as record:
            try:
                remaining = iter(keys)
                for batch in iter(lambda: list(islice(remaining, BATCH)), []):
                    counts.update(self._batch(batch))
            finally:
                done = Rewrapped(**counts)
                record.outcome = ", ".join(f"{name} {count}" for name, count in asdict(done).items())
        return done

    def _batch(self, keys: list[str]) -> Iterator[str]:
        """Re-seal a batch; yield the result for each record."""
        while keys:
            with outages():
                records = cast("list[bytes | None]", self._client.mget(keys))
            exchanges: list[tuple[str, bytes, bytes]] = []
            for key, record in zip(keys, records, strict=True):
                verdict = self._reseal(key, record)
                if isinstance(verdict, bytes):
                    exchanges.append((key, cast("bytes", record), verdict))
                else:
                    yield verdict
            replaced = self._write(exchanges)
            yield from ("rewrapped" for done in replaced if done)
            # Check records again that somebody else wrote meanwhile.
            keys = [key for (key, *_), done in zip(exchanges, replaced, strict=True) if not done]

    def _reseal(self, key: str, record: bytes | None) -> bytes | str:
        """The record sealed to the new key, or the reason why not."""
        if record is None:
            return "gone"
        mission_id, token = cast("tuple[str, int]", parse_result_key(key))
        try:
            held_by = RecordHeader.parse(record).key_id
            if held_by == self._recipient.key_id:
                return "already"
            if held_by not in self._identities:
                return "others"
            plaintext = self._identities[held_by].open(record, mission_id=mission_id, token=token)
        except SealError:
            return "unreadable"
        return self._recipient.seal(plaintext, mission_id=mission_id, token=token)

    def _write(self, exchanges: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        if not exchanges:
            return []

        def queue(pipe: Any) -> None:
            for key, before, after in exchanges:
                self._scripts.put(pipe, "reseal", before, after, key=key)

        # If the old identity is destroyed next, a failover must not lose the re-sealed records.
        return [answer == 1 for answer in self._scripts.send(queue, replicated=True)]
