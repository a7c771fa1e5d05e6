"""What a mission is: its states, its outcomes, the closed set of reasons, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self, cast

MASK = "********"


class State(StrEnum):
    """Where a mission stands in the ledger. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"

    @property
    def terminal(self) -> bool:
        """Whether a mission in this state stays in it (an operator's replay aside)."""
        return self in (State.SUCCEEDED, State.FAILED, State.DEAD)


class Reason(StrEnum):
    """Why a mission was refused, failed or is tried again: the one closed set.

    The same word is the error's slug, the metric's label and the log's field.
    """

    # The URL, refused before anything is connected to.
    INVALID_URL = "invalid_url"
    SCHEME_NOT_ALLOWED = "scheme_not_allowed"
    HOST_NOT_ALLOWED = "host_not_allowed"
    PORT_NOT_ALLOWED = "port_not_allowed"
    CREDENTIALS_IN_URL = "credentials_in_url"
    BLOCKED_ADDRESS = "blocked_address"
    # The way there.
    DNS_FAILURE = "dns_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CONNECTION_FAILED = "connection_failed"
    TLS_FAILURE = "tls_failure"
    # The answer.
    HTTP_CLIENT_ERROR = "http_client_error"
    HTTP_SERVER_ERROR = "http_server_error"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BODY_TOO_LARGE = "body_too_large"
    MALFORMED_RESPONSE = "malformed_response"
    TOO_MANY_SECRETS = "too_many_secrets"
    RESULT_TOO_LARGE = "result_too_large"
    EXTRACTION_CRASHED = "extraction_crashed"  # in a process of its own: see `worker.extract.apart`
    # The mission's life in the ledger.
    STORE_UNAVAILABLE = "store_unavailable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    LEASE_EXPIRED = "lease_expired"
    HOST_PAUSED = "host_paused"
    MEMORY_BUSY = "memory_busy"
    SHUTDOWN = "shutdown"
    EXPIRED = "expired"
    INTERNAL_ERROR = "internal_error"
    # Admission.
    QUOTA_EXCEEDED = "quota_exceeded"
    STORED_QUOTA_EXCEEDED = "stored_quota_exceeded"  # also of a mission whose result no longer found room
    QUEUE_FULL = "queue_full"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    MALFORMED_MESSAGE = "malformed_message"

    @property
    def transient(self) -> bool:
        """Whether trying again later may end differently."""
        return self in _TRANSIENT

    @property
    def policy_refusal(self) -> bool:
        """Whether policy forbade it: counted apart, never against the success objective."""
        return self in _POLICY_REFUSALS


_TRANSIENT = frozenset(
    {
        Reason.DNS_FAILURE,
        Reason.CONNECT_TIMEOUT,
        Reason.READ_TIMEOUT,
        Reason.DEADLINE_EXCEEDED,
        Reason.CONNECTION_FAILED,
        Reason.HTTP_SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.STORE_UNAVAILABLE,
        Reason.LEASE_EXPIRED,
        Reason.HOST_PAUSED,
        Reason.MEMORY_BUSY,
        Reason.SHUTDOWN,
        Reason.INTERNAL_ERROR,
        Reason.QUOTA_EXCEEDED,
        Reason.STORED_QUOTA_EXCEEDED,
        Reason.QUEUE_FULL,
    }
)

_POLICY_REFUSALS = frozenset(
    {
        Reason.INVALID_URL,
        Reason.SCHEME_NOT_ALLOWED,
        Reason.HOST_NOT_ALLOWED,
        Reason.PORT_NOT_ALLOWED,
        Reason.CREDENTIALS_IN_URL,
        Reason.BLOCKED_ADDRESS,
    }
)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret found in a document. Line and column count from 1, in characters.

    Its repr shows neither value nor category: both are data.
    """

    detector: str
    category: str
    value: str
    line: int
    column: int

    def __repr__(self) -> str:
        return f"Secret(detector={self.detector!r}, line={self.line}, column={self.column})"

    def as_dict(self, *, show: bool = True) -> dict[str, Any]:
        """The secret as the interface prints it; with `show` false the value is masked."""
        # `asdict` copies at depth, which takes longer than to seal.
        return {
            "detector": self.detector,
            "category": self.category,
            "value": self.value if show else MASK,
            "line": self.line,
            "column": self.column,
        }

    @classmethod
    def from_dict(cls, item: Mapping[str, object]) -> Self:
        """The secret of such a dictionary, whoever wrote it; what else it holds is passed over.

        Raises:
            KeyError: a field is missing.
            TypeError: a field is of another type.
        """
        kinds = {"detector": str, "category": str, "value": str, "line": int, "column": int}
        if any(type(item[name]) is not kind for name, kind in kinds.items()):
            raise TypeError
        return cls(**{name: cast("Any", item[name]) for name in kinds})


@dataclass(frozen=True, slots=True)
class Ticket:
    """The answer to an enqueue: the mission's id, and whether it had been there before."""

    id: str
    state: State | str
    duplicate: bool

    def as_dict(self) -> dict[str, Any]:
        """The ticket as the interface prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MissionStatus:
    """How a mission stands. Times are RFC 3339 in UTC; `secrets` is a count, None until it succeeded.

    State and reason are text where a newer release stored them; what no release writes is `unreadable`.
    """

    id: str
    state: State | str
    attempts: int
    secrets: int | None
    reason: Reason | str | None
    submitted_at: str
    finished_at: str | None

    @property
    def finished(self) -> bool:
        """Whether it has ended, in whatever state."""
        return self.finished_at is not None

    def as_dict(self) -> dict[str, Any]:
        """The status as the interface prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Claim:
    """A mission in a worker's hands: only the holder of its current `token` may commit it.

    Times are milliseconds since the epoch, by the Redis server's clock. A `suspect` has lost so many leases that it
    may be what ends its workers.
    """

    id: str
    token: int
    attempt: int
    submitter: str
    url_record: bytes
    submitted_at_ms: int
    expires_at_ms: int
    now_ms: int
    lost_leases: int = 0
    suspect: bool = False

    def __repr__(self) -> str:
        return f"Claim(id={self.id!r}, token={self.token}, attempt={self.attempt})"


@dataclass(frozen=True, slots=True)
class Stats:
    """How many missions stand in each state, and how long the oldest unfinished one has waited, in seconds."""

    queued: int
    running: int
    retrying: int
    succeeded: int
    failed: int
    dead: int
    oldest_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The stats as the interface prints them."""
        return asdict(self) | {"oldest_seconds": round(self.oldest_seconds, 3)}
