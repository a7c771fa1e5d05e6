"""Dead letters: missions that ended without a result, kept for a person to examine, requeue or discard.

Each change is recorded in the audit log first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.errors import UnknownMission
from mission.ids import check_mission_id, is_mission_id
from mission.model import Reason, State
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.entries import instant, listed, number, read_entries, word
from mission.store.names import Key
from mission.store.scripts import Scripts, as_text

_PAGE = 500
# The longest part of a history to return, the newest. No mission comes near it, but an overwritten entry may.
_HISTORY_BYTES = 8192
_FIELDS = ("state", "url", "reason", "attempts", "submitter", "allowed_by", "submitted_at", "finished_at", "history")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead mission. Times are RFC 3339 in UTC; `history` holds time and reason of each attempt's end and each replay. `allowed_by` is the
    allowlist entry of its host; empty if no attempt came that far.

    Reasons are text here: after a rollback, they may be from a newer release.
    """

    id: str
    reason: str
    attempts: int
    submitter: str
    allowed_by: str
    submitted_at: str
    died_at: str
    history: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The letter as printed by the command line."""
        return asdict(self) | {"history": [{"at": at, "reason": reason} for at, reason in self.history]}


class DeadLetters:
    """Finds dead letters and acts on them.

    Methods that change something record it before and after; it is safe to repeat them.

    Raises (every method):
        InvalidMission: the id or the reason is not valid.
        UnknownMission: there is no such mission, or for `get`, no such dead letter.
        AuditError: it could not be recorded; if the start could not, nothing was changed.
        LedgerUnavailable: Redis does not answer.
    """

    def __init__(self, client: redis.Redis, settings: Settings, audit: AuditLog) -> None:
        self._client = client
        self._scripts = Scripts(client, settings)
        self._lifetime_ms = round(settings.max_age * 1000)
        self._audit = audit

    def find(self, *, reason: Reason | None = None, older_than_seconds: float = 0.0) -> Iterator[DeadLetter]:
        """The dead letters that meet the conditions, the oldest first."""
        with outages():
            seconds, micros = self._client.time()
            before = round((seconds + micros / 1e6 - older_than_seconds) * 1000)
            # All ids at once: a letter that is requeued meanwhile must not shift the pages.
            found = map(as_text, self._client.zrangebyscore(Key.DEAD, "-inf", before))
        ids = [mission_id for mission_id in found if is_mission_id(mission_id)]
        for start in range(0, len(ids), _PAGE):
            for letter in self._read(ids[start : start + _PAGE]):
                if reason in (None, letter.reason):
                    yield letter

    def get(self, mission_id: str) -> DeadLetter:
        """One dead letter."""
        for letter in self._read([check_mission_id(mission_id)]):
            return letter
        raise UnknownMission(mission_id)

    def replay(self, mission_id: str, *, why: str) -> bool:
        """Requeue a dead mission, with its attempts counted from zero; a reaper publishes it within seconds.

        Returns:
            False if it is not dead, or no longer.
        """
        return self._act("replay", mission_id, why, self._lifetime_ms)

    def discard(self, mission_id: str, *, why: str) -> bool:
        """Remove a mission from the dead letters permanently.

        Returns:
            False if it is not among them, or no longer.
        """
        return self._act("discard", mission_id, why)

    def state(self, mission_id: str) -> str:
        """The state of a mission that is not a dead letter; `discarded`; or `unknown` if the ledger does not hold it."""
        (entry,) = read_entries(self._client, [mission_id], ("state", "url"))
        state = word(entry.get("state")) or "unknown"
        return "discarded" if state == State.DEAD and "url" not in entry else state

    def _act(self, script: str, mission_id: str, why: str, *args: Any) -> bool:
        check_mission_id(mission_id)
        with recorded(self._audit, script, why=why, mission_id=mission_id) as record:
            record.outcome = as_text(self._scripts.run(script, mission_id, *args, replicated=True))
        if record.outcome == "unknown":
            raise UnknownMission(mission_id)
        return record.outcome != "not_dead"

    def _read(self, ids: Sequence[str]) -> Iterator[DeadLetter]:
        for mission_id, entry in zip(ids, read_entries(self._client, ids, _FIELDS), strict=True):
            # A discarded mission stays dead, without its URL.
            if word(entry.get("state")) == State.DEAD and "url" in entry:
                yield _letter(mission_id, entry)


def _letter(mission_id: str, entry: Mapping[str, bytes]) -> DeadLetter:
    history = entry.get("history", b"")
    if len(history) > _HISTORY_BYTES:
        history = history[-_HISTORY_BYTES:].partition(b" ")[2]
    marks = (mark.partition(b":") for mark in history.split())
    return DeadLetter(
        id=mission_id,
        reason=word(entry.get("reason")),
        attempts=number(entry.get("attempts")) or 0,
        submitter=word(entry.get("submitter")),
        allowed_by=listed(entry.get("allowed_by")),
        submitted_at=instant(entry.get("submitted_at")),
        died_at=instant(entry.get("finished_at")),
        history=tuple((instant(at), word(why)) for at, _, why in marks),
    )
