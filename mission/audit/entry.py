"""The audit's entries: their format, and how each continues its predecessor.

An entry is canonical JSON (sorted keys, no spaces, ASCII) that holds the hash of the entry before it. Its own hash is the
SHA-256 of that hash and the JSON, both as text. An element of the list is the same JSON plus the entry's own hash.
A login that may append can append anything, so readers skip invalid elements: an entry continues the nearest entry before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self, get_type_hints

GENESIS = "0" * 64
TRIM, MEND = "trim", "mend"
LOG_FIELD = "decoder.audit"
ECS_VERSION = "8.17.0"
_MAX_SEQ = 2**53 - 1  # a forged number can have any size; after the highest that every JSON reader holds comes 1
_CUT = re.compile(r"removed \d+, the last of them was entry (\d{1,16}) ([0-9a-f]{64})")
_KNOWN = re.compile(r"known: ([0-9a-f]{64}(?: [0-9a-f]{64})*)")


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor: the Redis login, the operating system's user, the host."""

    redis_user: str
    os_user: str
    host: str


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to the previous entry: its number and its hash."""

    seq: int = 0
    hash: str = GENESIS

    @property
    def next_seq(self) -> int:
        """The number of the next entry."""
        return self.seq % _MAX_SEQ + 1


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One record. `at` is RFC 3339 in UTC; `prev` and `hash` are SHA-256 in hex; `seq` rises from 1 without a gap."""

    seq: int
    at: str
    actor: Actor
    action: str
    mission_id: str | None
    key_id: str | None
    why: str
    outcome: str
    prev: str

    @property
    def text(self) -> str:
        """The canonical JSON."""
        return canonical(asdict(self))

    @property
    def hash(self) -> str:
        """The hash that the next entry holds."""
        return chain_hash(self.prev, self.text)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """An entry from its JSON; the hash in it is not checked.

        Raises:
            ValueError: it is not an audit entry.
        """
        return cls.of(load_json(text))

    @classmethod
    def of(cls, fields: Any) -> Self:
        """An entry from its fields; the hash among them is not checked.

        Raises:
            ValueError: they are not an audit entry's fields.
        """
        try:
            actor = Actor(**fields["actor"])
            entry = cls(**{name: value for name, value in fields.items() if name != "hash"} | {"actor": actor})
        except (TypeError, LookupError, AttributeError):
            raise ValueError("not an audit entry") from None
        if not (_typed(actor, _ACTOR_TYPES) and _typed(entry, _ENTRY_TYPES) and 0 < entry.seq <= _MAX_SEQ):
            raise ValueError("not an audit entry")
        return entry

    @property
    def link(self) -> Link:
        """The reference that the next entry holds."""
        return Link(self.seq, self.hash)

    @property
    def element(self) -> bytes:
        """The entry as an element of the list."""
        return canonical(self.as_dict()).encode()

    @property
    def time(self) -> datetime | None:
        """`at`; None if it is not a time."""
        try:
            return datetime.fromisoformat(self.at).astimezone()
        except (ValueError, OverflowError):
            return None

    @property
    def cut(self) -> Link | None:
        """The last of the entries whose removal a trim records."""
        match = _CUT.fullmatch(self.outcome) if self.action == TRIM else None
        return Link(int(match[1]), match[2]) if match else None

    @property
    def mended(self) -> list[str]:
        """The marks of the findings that a mend records as known."""
        match = _KNOWN.fullmatch(self.outcome) if self.action == MEND else None
        return match[1].split() if match else []

    def continues(self, link: Link) -> bool:
        """Whether this entry directly follows the linked one."""
        return (self.seq, self.prev) == (link.next_seq, link.hash)

    def as_dict(self) -> dict[str, Any]:
        """The entry as the interface prints it."""
        return asdict(self) | {"hash": self.hash}

    def log_line(self, field: str = LOG_FIELD) -> str:
        """The entry as a log line in Elastic Common Schema. One field holds all of it; the field's name identifies the chain."""
        return canonical(
            {
                "@timestamp": self.at,
                "log.level": "info",
                "ecs.version": ECS_VERSION,
                "log.logger": field,
                "message": f"{self.action}: {self.outcome}",
                "event.kind": "event",
                "event.action": self.action,
                "user.name": self.actor.redis_user,
                "host.name": self.actor.host,
                field: self.as_dict(),
            }
        )


_ACTOR_TYPES = get_type_hints(Actor)
_ENTRY_TYPES = get_type_hints(AuditEntry)


def canonical(document: Mapping[str, Any]) -> str:
    """The canonical JSON text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def chain_hash(prev: str, text: str) -> str:
    """SHA-256 in hex of the predecessor's hash and an entry's text."""
    return hashlib.sha256((prev + text).encode()).hexdigest()


def entry_of(element: bytes) -> AuditEntry | None:
    """The entry in an element of the list; None if it holds no entry or was altered."""
    try:
        entry = AuditEntry.parse(element)
        return entry if entry.element == element else None
    except ValueError:
        return None


def trim_outcome(count: int, last: Link) -> str:
    """The outcome of a trim: the number of elements removed, and the last entry among them."""
    return f"removed {count}, the last of them was entry {last.seq} {last.hash}"


def mend_outcome(marks: Iterable[str]) -> str:
    """The outcome of a mend: the marks of the known findings."""
    return f"known: {' '.join(marks)}"


def load_json(text: str | bytes) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("not JSON that anyone wrote") from None


def _typed(thing: object, types: Mapping[str, type]) -> bool:
    values = {name: getattr(thing, name) for name in types}
    return all(isinstance(value, types[name]) and not isinstance(value, bool) for name, value in values.items())
