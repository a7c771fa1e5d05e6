"""The model of a mission: its states, its outcomes, the closed set of reasons, and the records that callers get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self, cast

MASK = "********"


class State(StrEnum):
    """The state of a mission in the ledger. The last four are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a mission in this state stays in it, unless an operator requeues it."""
        return self not in (State.QUEUED, State.RUNNING, State.RETRYING)


class Priority(StrEnum):
    """How urgent a mission is. While all three wait, of 13 claims 8 are `high`, 4 `normal` and 1 `low`."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Reason(StrEnum):
    """Why a mission was refused, failed or is retried: a closed set.

    Errors, metric labels and log fields use the same words.
    """

    # The URL, refused before any connection.
    INVALID_URL = "invalid_url"
    SCHEME_NOT_ALLOWED = "scheme_not_allowed"
    HOST_NOT_ALLOWED = "host_not_allowed"
    PORT_NOT_ALLOWED = "port_not_allowed"
    CREDENTIALS_IN_URL = "credentials_in_url"
    BLOCKED_ADDRESS = "blocked_address"
    # The connection.
    DNS_FAILURE = "dns_failure"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CONNECTION_FAILED = "connection_failed"
    TLS_FAILURE = "tls_failure"
    PROXY_FAILED = "proxy_failed"  # the egress proxy itself fails: it connects to no host
    PROXY_LOGIN_REFUSED = "proxy_login_refused"
    PROXY_REFUSED = "proxy_refused"  # the proxy works, but does not connect to this host
    # The response.
    HTTP_CLIENT_ERROR = "http_client_error"
    HTTP_SERVER_ERROR = "http_server_error"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BODY_TOO_LARGE = "body_too_large"
    MALFORMED_RESPONSE = "malformed_response"
    TOO_MANY_SECRETS = "too_many_secrets"
    RESULT_TOO_LARGE = "result_too_large"
    EXTRACTION_CRASHED = "extraction_crashed"  # in a separate process: see `worker.extract.apart`
    CREDENTIALS_REFUSED = "credentials_refused"  # our credentials: 401 or 403 in response, or no token for them
    # The mission's life in the ledger.
    STORE_UNAVAILABLE = "store_unavailable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    LEASE_EXPIRED = "lease_expired"
    HOST_PAUSED = "host_paused"
    HOST_BUSY = "host_busy"
    MEMORY_BUSY = "memory_busy"
    SHUTDOWN = "shutdown"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"
    # Admission.
    QUOTA_EXCEEDED = "quota_exceeded"
    STORED_QUOTA_EXCEEDED = "stored_quota_exceeded"  # also for a mission whose result exceeds the quota
    QUEUE_FULL = "queue_full"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    MALFORMED_MESSAGE = "malformed_message"

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed."""
        return self in _TRANSIENT

    @property
    def policy_refusal(self) -> bool:
        """Whether policy forbade the mission: counted separately, never against the success objective."""
        return self in _POLICY_REFUSALS


_TRANSIENT = frozenset(
    {
        Reason.DNS_FAILURE,
        Reason.CONNECT_TIMEOUT,
        Reason.READ_TIMEOUT,
        Reason.DEADLINE_EXCEEDED,
        Reason.CONNECTION_FAILED,
        Reason.PROXY_FAILED,
        Reason.PROXY_LOGIN_REFUSED,
        Reason.PROXY_REFUSED,
        Reason.HTTP_SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.STORE_UNAVAILABLE,
        Reason.LEASE_EXPIRED,
        Reason.HOST_PAUSED,
        Reason.HOST_BUSY,
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


class Confidence(StrEnum):
    """How sure a detector is that what it found is a secret."""

    CERTAIN = "certain"  # markers in the document enclose it
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @classmethod
    def at_least(cls, least: Confidence) -> frozenset[Confidence]:
        """This confidence and every higher one."""
        ordered = list(cls)
        return frozenset(ordered[: ordered.index(least) + 1])


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret found in a document. Line and column count from 1, in characters.

    Its repr shows neither value nor category: both are data.

    Attributes:
        detector: `marker`, `provider`, `generic`, or `pack:NAME`.
        category: the key of a marked secret, or the id of the rule that found it.
        value: as in the document; decoded if it was encoded.
        line: where it begins; if it is encoded, where the encoded text begins.
        column: as `line`.
        confidence: the detector's.
        path: the archive member that holds it; empty for the document itself.
        encoding: the encodings removed to reach it, like `base64` or `percent+base64`; empty if there were none.
        count: how often a rule found it; line and column are those of the first.
    """

    detector: str
    category: str
    value: str
    line: int
    column: int
    confidence: Confidence | str = Confidence.CERTAIN  # text if a newer release sealed it
    path: str = ""
    encoding: str = ""
    count: int = 1

    def __repr__(self) -> str:
        return f"Secret(detector={self.detector!r}, line={self.line}, column={self.column})"

    def as_dict(self, *, show: bool = True) -> dict[str, Any]:
        """The secret as the CLI prints it; without `show` the value is masked."""
        # `asdict` makes a deep copy, which takes longer than sealing.
        return {
            "detector": self.detector,
            "category": self.category,
            "value": self.value if show else MASK,
            "line": self.line,
            "column": self.column,
            "confidence": self.confidence,
            "path": self.path,
            "encoding": self.encoding,
            "count": self.count,
        }

    def stored(self) -> dict[str, Any]:
        """`as_dict` without the fields that have their default value: most secrets occur once and are not encoded."""
        return {name: value for name, value in self.as_dict().items() if _UNSAID.get(name) != value}

    @classmethod
    def from_dict(cls, item: Mapping[str, object]) -> Self:
        """A secret from an untrusted dictionary; unknown fields are ignored.

        Raises:
            KeyError: a field without a default is missing.
            TypeError: a field has another type.
        """
        fields = {name: item[name] for name in _KINDS if name in item or name not in _UNSAID}
        if any(isinstance(value, bool) or not isinstance(value, _KINDS[name]) for name, value in fields.items()):
            raise TypeError
        return cls(**cast("dict[str, Any]", fields))


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("detector", "category", "value", "confidence", "path", "encoding"), str),
    **dict.fromkeys(("line", "column", "count"), int),
}
# Defaults that are not stored; records from before 1.0 have none of these fields.
_UNSAID = {"confidence": Confidence.CERTAIN, "path": "", "encoding": "", "count": 1}


class Cut(StrEnum):
    """Why the search of a document stopped early, so that its result is incomplete."""

    ENGINE = "engine"  # it failed on a part of a text
    TIME = "time"
    SECRETS = "secrets"  # more than the limit
    BYTES = "bytes"  # of its encoded or packed content, or of the result
    MEMBERS = "members"  # of an archive
    DEPTH = "depth"
    RATIO = "ratio"  # of packed to unpacked: a bomb
    DAMAGED = "damaged"
    ENCRYPTED = "encrypted"
    UNSUPPORTED = "unsupported"  # a packing that we do not read, or that needs too much memory


class Extraction(list[Secret]):
    """The secrets of a document, and why its search stopped early: text if a newer release stored it."""

    __slots__ = ("cut",)

    def __init__(self, secrets: Iterable[Secret] = (), cut: Iterable[Cut | str] = ()) -> None:
        super().__init__(secrets)
        self.cut = frozenset(cut)

    @property
    def complete(self) -> bool:
        """Whether the whole document was searched."""
        return not self.cut


@dataclass(frozen=True, slots=True)
class Ticket:
    """The answer to an enqueue: the mission's id, and whether it existed before. A duplicate keeps its own `priority`."""

    id: str
    state: State | str
    duplicate: bool
    priority: Priority | str = Priority.NORMAL

    def as_dict(self) -> dict[str, Any]:
        """The ticket as the CLI prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MissionStatus:
    """The status of a mission. Times are RFC 3339 in UTC. State and reasons are text if a newer release stored them, and
    `unreadable` if no release writes them.

    Attributes:
        secrets: how many were found; None until it succeeded.
        reason: why it ended, or why its last attempt failed.
        cut: why the search stopped early.
        put_off: why it is retried, if it did not fail itself: its host is busy or paused, or its worker stopped.
        next_try_at: the earliest time of the next attempt.
    """

    id: str
    state: State | str
    attempts: int
    secrets: int | None
    reason: Reason | str | None
    submitted_at: str
    finished_at: str | None
    cut: Sequence[str] = ()
    put_off: Reason | str | None = None
    next_try_at: str | None = None
    priority: Priority | str = Priority.NORMAL

    @property
    def complete(self) -> bool | None:
        """Whether the whole document was searched; None until it succeeded."""
        return None if self.secrets is None else not self.cut

    @property
    def finished(self) -> bool:
        """Whether it has ended, in any terminal state."""
        return self.finished_at is not None

    def as_dict(self) -> dict[str, Any]:
        """The status as the CLI prints it."""
        return asdict(self) | {"complete": self.complete, "cut": list(self.cut)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a mission ended, for readers of outcomes. Times are RFC 3339 in UTC. State and reason as in `MissionStatus`.

    Attributes:
        secrets: how many were found; None unless it succeeded.
        place: its position in the order of all outcomes; a repeat has the same, a dead letter's second end another.
        missed: an upper bound on the outcomes dropped before this one because they were unread for too long, or too many.
    """

    id: str
    submitter: str
    state: State | str
    reason: Reason | str | None
    secrets: int | None
    submitted_at: str
    finished_at: str
    place: str
    missed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome as the CLI prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Claim:
    """A mission that a worker holds: only the holder of its current `token` may commit it.

    Times are milliseconds since the epoch, by the Redis server's clock. A `suspect` has lost so many leases that it
    may be the cause of its workers' crashes.
    """

    id: str
    token: int
    attempt: int
    submitter: str
    url_record: bytes
    submitted_at_ms: int
    expires_at_ms: int
    now_ms: int
    priority: str = Priority.NORMAL
    lost_leases: int = 0
    suspect: bool = False

    def __repr__(self) -> str:
        return f"Claim(id={self.id!r}, token={self.token}, attempt={self.attempt})"


@dataclass(frozen=True, slots=True)
class Stats:
    """The number of missions in each state, and how long the oldest unfinished one has waited, in seconds.

    Queued missions are also counted by priority.
    """

    queued: int
    running: int
    retrying: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    oldest_seconds: float
    queued_high: int = 0
    queued_normal: int = 0
    queued_low: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The stats as the CLI prints them."""
        return asdict(self) | {"oldest_seconds": round(self.oldest_seconds, 3)}
