"""Audited actions: the audit records the start of a person's action before it begins, and its outcome afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mission.audit.log import AuditLog
from mission.errors import AuditError, DecoderError, InvalidMission
from mission.model import Reason

MAX_REASON_LENGTH = 500


@dataclass(slots=True)
class Record:
    """Set by the block: a few words on how it ended, or how far it came, and the key that it used."""

    key_id: str | None
    outcome: str = ""


@contextmanager
def recorded(
    audit: AuditLog, action: str, *, why: str, mission_id: str | None = None, key_id: str | None = None
) -> Iterator[Record]:
    """Record the start of an action and its end: the outcome that the block sets, or its failure.

    Args:
        audit: where to record it.
        action: the action, in one word.
        why: the reason that the actor gave, 1 to 500 characters.
        mission_id: the mission that it affects, if it affects one.
        key_id: the key that it uses, hex; the block may set it later.

    Raises:
        InvalidMission: `why` is empty or too long; the block was not entered.
        AuditError: the start could not be recorded, and the block was not entered; or the end could not be recorded.
    """
    why = check_reason(why)
    audit.append(action, mission_id=mission_id, key_id=key_id, why=why, outcome="started")
    record = Record(key_id)
    try:
        yield record
    except BaseException as error:
        # The start is recorded; a later outage of Redis must not hide the error.
        with suppress(AuditError):
            problem = str(error) if isinstance(error, DecoderError) else type(error).__name__
            outcome = f"failed: {problem}" + (f" ({record.outcome})" if record.outcome else "")
            audit.append(action, mission_id=mission_id, key_id=record.key_id, why=why, outcome=outcome)
        raise
    audit.append(action, mission_id=mission_id, key_id=record.key_id, why=why, outcome=record.outcome)


def check_reason(text: str) -> str:
    """The reason, trimmed.

    Raises:
        InvalidMission: it is empty or longer than 500 characters.
    """
    if 0 < len(text.strip()) <= MAX_REASON_LENGTH:
        return text.strip()
    raise InvalidMission(Reason.MALFORMED_MESSAGE, f"a reason has 1 to {MAX_REASON_LENGTH} characters")
