"""The ledger's requests for changes and its answers: see `mission.store.ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mission.model import Claim, Cut, Priority, Reason, State


class Known(NamedTuple):
    """A mission that an idempotency key may stand for: its id, and the URL's fingerprint under one of the URL keys.

    If the id stands only for this URL (`alone`), a mission with another URL is a conflict; otherwise it is a different mission.
    """

    id: str
    key_id: str
    print: str
    alone: bool


@dataclass(frozen=True, slots=True, repr=False)
class Admission:
    """A mission to admit: its id, its encrypted URL, its lifetime, and what identifies it under an idempotency key.

    `known` lists the missions that the idempotency key may stand for, this one first; empty without a key.
    """

    id: str
    url_record: bytes
    lifetime_seconds: float
    known: Sequence[Known] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The verdict on an admission: new, `duplicate`, or the reason for its refusal and the seconds to wait."""

    id: str
    state: State | str | None
    duplicate: bool
    refusal: Reason | None = None
    retry_after: float = 0.0
    priority: Priority | str = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim: leases, expired ids, ids of a schema that this release cannot read, and whether more may wait."""

    claims: list[Claim]
    expired: list[str]
    unreadable: list[str]
    more: bool


@dataclass(frozen=True, slots=True, repr=False)
class Commit:
    """The end of a mission. `record` is its sealed result if it succeeded, `cut` names what ended the search before the document's
    end, and `allowed_by` is the allowlist entry of its host.
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
    """A mission to give back, due again after `delay_seconds`; without `uses_attempt` its attempt does not count.

    `host` is the host that it waits for: it is kept with the host's other missions, and is due when the host is not paused. `allowed_by` is the
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
    """What the reaper found: missions to publish again since their leases expired, and dead missions with their reason."""

    again: list[str]
    dead: list[tuple[str, Reason]]
    leases_expired: int


@dataclass(frozen=True, slots=True)
class Mended:
    """A key that was repaired, and what was wrong with it: its former type, or a word for the fault."""

    key: str
    was: str
