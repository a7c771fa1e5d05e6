"""What changes something on a person's word is on the audit's record before it begins, and how it ended after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mission.audit.log import AuditLog
from mission.errors import AuditError, DecoderError
from mission.operate.results import check_reason


@dataclass(slots=True)
class Record:
    """How it ended, in a few words that the block sets; how far it came, where it fails."""

    outcome: str = ""


@contextmanager
def recorded(
    audit: AuditLog, action: str, *, why: str, mission_id: str | None = None, key_id: str | None = None
) -> Iterator[Record]:
    """Put the start of an action on record, and its end: the outcome that the block sets, or that it failed.

    Raises:
        InvalidMission: `why` is empty or too long; the block was not entered.
        AuditError: the start could not be recorded, and the block was not entered; or the end could not.
    """
    why = check_reason(why)
    audit.append(action, mission_id=mission_id, key_id=key_id, why=why, outcome="started")
    record = Record()
    try:
        yield record
    except BaseException as error:
        # The start of it is on record; that Redis went away since must not hide what happened.
        with suppress(AuditError):
            problem = str(error) if isinstance(error, DecoderError) else type(error).__name__
            outcome = f"failed: {problem}" + (f" ({record.outcome})" if record.outcome else "")
            audit.append(action, mission_id=mission_id, key_id=key_id, why=why, outcome=outcome)
        raise
    audit.append(action, mission_id=mission_id, key_id=key_id, why=why, outcome=record.outcome)
