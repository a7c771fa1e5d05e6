"""What the ledger is asked to change, and what it answers: see `mission.store.ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mission.model import Claim, Cut, Priority, Reason, State


class Known(NamedTuple):
    """A mission that an idempotency key may stand for: its id, and the URL's fingerprint under one of the URL keys.

    Where the id stands for one URL `alone`, a mission of another one is a conflict; else it is none of this one's business.
    """

    id: str
    key_id: str
    print: str
    alone: bool


@dataclass(frozen=True, slots=True, repr=False)
class Admission:
    """A mission to admit: its id, its URL encrypted, its lifetime, and what tells it from another of the same key.

    `known` is empty without an idempotency key; else which missions that key may stand for, this one first.
    """

    id: str
    url_record: bytes
    lifetime_seconds: float
    known: Sequence[Known] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The verdict on an admission: new, `duplicate`, or the reason of its refusal with the seconds to wait."""

    id: str
    state: State | str | None
    duplicate: bool
    refusal: Reason | None = None
    retry_after: float = 0.0
    priority: Priority | str = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim gave: leases, ids that had expired, ids of a schema this release cannot read, and whether more may wait."""

    claims: list[Claim]
    expired: list[str]
    unreadable: list[str]
    more: bool


@dataclass(frozen=True, slots=True, repr=False)
class Commit:
    """The end of a mission: `record` is its sealed result where it succeeded, `cut` what ended the search before the document did,
    `allowed_by` the allowlist entry of its host.
    """

    id: str
    token: int
    state: State
    reason: Reason | None = None
    secrets: int | None = None
    record: bytes | None = None
    cut: frozenset[Cut | str] = frozenset()
    allowed_by: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A mission given back, due again after `delay_seconds`; without `uses_attempt` its attempt does not count.

    `host` is what it waits for: it lies with the others of that host, and comes back when the host is not paused. `allowed_by` is the
    allowlist entry of its host.
    """

    id: str
    token: int
    reason: Reason
    delay_seconds: float
    uses_attempt: bool = True
    host: str = ""
    allowed_by: str = ""


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper found: missions to be published again, since their leases ran out, and the dead with their reason."""

    again: list[str]
    dead: list[tuple[str, Reason]]
    leases_expired: int


@dataclass(frozen=True, slots=True)
class Mended:
    """A key that was put right, and what was wrong: the type that it had, or a word of what it was."""

    key: str
    was: str
