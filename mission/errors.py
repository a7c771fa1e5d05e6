"""Every error that the decoder raises on purpose: one sentence each, with a reason if the closed set has one.

Their messages never contain a URL, a secret or a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mission.model import MissionStatus, Reason
from mission.units import counted, format_duration


class DecoderError(Exception):
    """The base class. Its text is one line that a person can act on; `more` are lines that follow it."""

    reason: Reason | None = None

    def __init__(self, text: object = "", *more: str) -> None:
        super().__init__(text)
        self.more = more


class SettingsError(DecoderError):
    """A setting is missing or invalid: the line names the variable, the value it got and the value it takes."""


class KeyFormatError(SettingsError):
    """A key is not one valid line of text, or its file is open to others."""


class MissionFailed(DecoderError):
    """An attempt ended without a document.

    Args:
        reason: from the closed set.
        retry_after: seconds that the other side asked to wait, if it did.
    """

    reason: Reason

    def __init__(self, reason: Reason, *, retry_after: float | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.retry_after = retry_after


class InvalidMission(MissionFailed):
    """The mission was refused because its URL's syntax, its id or an option is invalid."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class QueueFull(DecoderError):
    """The ledger holds as many unfinished missions as `DECODER_QUEUE_LIMIT` allows. Try again later."""

    reason = Reason.QUEUE_FULL

    def __init__(self, limit: int) -> None:
        super().__init__(f"queue_full: {limit} unfinished missions already; try again later")


class QuotaExceeded(DecoderError):
    """The submitter enqueued more than `DECODER_QUOTA` allows. `retry_after` is the time to wait, in seconds."""

    reason = Reason.QUOTA_EXCEEDED

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"quota_exceeded: try again in {retry_after:.1f} s")
        self.retry_after = retry_after


class StoredQuotaExceeded(QuotaExceeded):
    """The submitter's stored results fill `DECODER_STORED_QUOTA`; they expire after `DECODER_RESULT_TTL`.

    `retry_after` is the time until the oldest of them expire, in seconds.
    """

    reason = Reason.STORED_QUOTA_EXCEEDED

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.args = (
            "stored_quota_exceeded: this submitter's results fill DECODER_STORED_QUOTA; "
            f"the oldest expire in {retry_after:.0f} s",
        )


class IdempotencyConflict(DecoderError):
    """The same idempotency key came with another URL."""

    reason = Reason.IDEMPOTENCY_CONFLICT

    def __init__(self) -> None:
        super().__init__("idempotency_conflict: this idempotency key is bound to another URL")


class LedgerUnavailable(DecoderError):
    """Redis did not answer in time, or refused. Nothing was accepted, unless stated otherwise."""

    reason = Reason.STORE_UNAVAILABLE


class LedgerRefuses(LedgerUnavailable):
    """Redis answered with an error: it is full, read-only, denies permission, or a key has another type."""


class UnknownMission(DecoderError):
    """The ledger has no mission with this id (any more)."""

    def __init__(self, mission_id: str) -> None:
        super().__init__(f"no mission {mission_id} in the ledger: was it enqueued here within DECODER_LEDGER_TTL?")


class UnknownBatch(DecoderError):
    """The ledger has no batch with this id (any more)."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"no batch {batch_id} in the ledger: was it enqueued here within DECODER_LEDGER_TTL, with at least one URL accepted?"
        )


class WaitTimeout(DecoderError, TimeoutError):
    """The time ran out before all missions were finished. They go on; `statuses` holds those of the unfinished ones."""

    def __init__(self, seconds: float, statuses: Sequence[MissionStatus]) -> None:
        states = ", ".join(f"{count} {state}" for state, count in Counter(status.state for status in statuses).items())
        unfinished = counted(len(statuses), "mission")
        super().__init__(
            f"the time ran out: {unfinished} not finished after {format_duration(seconds)} ({states}); the decoder goes on with them"
        )
        self.statuses = statuses


class ResultUnavailable(DecoderError):
    """The mission has no result to open: not finished, failed, expired or forgotten."""


class SealError(DecoderError):
    """A sealed record does not open: it was changed, moved to another mission, or sealed to another key."""


class AuditError(DecoderError):
    """An audit record could not be written, so the recorded action was refused."""
