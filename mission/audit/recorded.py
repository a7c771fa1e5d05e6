"""What changes something on a person's word is on the audit's record before it begins, and how it ended after."""

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
    """What the block says of its end: in a few words how it ended, or how far it came; and the key that it used."""

    key_id: str | None
    outcome: str = ""


@contextmanager
def recorded(
    audit: AuditLog, action: str, *, why: str, mission_id: str | None = None, key_id: str | None = None
) -> Iterator[Record]:
    """Put the start of an action on record, and its end: the outcome that the block sets, or that it failed.

    Args:
        audit: where.
        action: what is done, in a word.
        why: the reason that the actor gave, 1 to 500 characters.
        mission_id: to which mission, if to one.
        key_id: with which key, hex; the block may say it more closely.

    Raises:
        InvalidMission: `why` is empty or too long; the block was not entered.
        AuditError: the start could not be recorded, and the block was not entered; or the end could not.
    """
    why = check_reason(why)
    audit.append(action, mission_id=mission_id, key_id=key_id, why=why, outcome="started")
    record = Record(key_id)
    try:
        yield record
    except BaseException as error:
        # The start of it is on record; that Redis went away since must not hide what happened.
        with suppress(AuditError):
            problem = str(error) if isinstance(error, DecoderError) else type(error).__name__
            outcome = f"failed: {problem}" + (f" ({record.outcome})" if record.outcome else "")
            audit.append(action, mission_id=mission_id, key_id=record.key_id, why=why, outcome=outcome)
        raise
    audit.append(action, mission_id=mission_id, key_id=record.key_id, why=why, outcome=record.outcome)


def check_reason(text: str) -> str:
    """The reason, trimmed, if it is one.

    Raises:
        InvalidMission: it is empty or longer than 500 characters.
    """
    if 0 < len(text.strip()) <= MAX_REASON_LENGTH:
        return text.strip()
    raise InvalidMission(Reason.MALFORMED_MESSAGE, f"a reason has 1 to {MAX_REASON_LENGTH} characters")
