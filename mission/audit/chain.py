"""The audit's entries, how they chain, and how a broken chain shows. No Redis here.

An entry is canonical JSON (sorted keys, no spaces, ASCII) that holds its predecessor's hash; its own hash is the SHA-256
of that hash and the JSON, both as text. The chain shows what was removed, changed or put between. That the whole of it
was rewritten or emptied shows against the log lines, which carry the same entries with their hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self, get_type_hints

GENESIS = "0" * 64
LOG_FIELD = "decoder.audit"
ECS_VERSION = "8.17.0"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the Redis login, the operating system's user, the host."""

    redis_user: str
    os_user: str
    host: str


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
        """An entry from its JSON.

        Raises:
            ValueError: it is none.
        """
        return cls.of(_load(text))

    @classmethod
    def of(cls, fields: Any) -> Self:
        """An entry from its fields.

        Raises:
            ValueError: they are not an entry's.
        """
        try:
            actor = Actor(**fields["actor"])
            entry = cls(**fields | {"actor": actor})
        except (TypeError, LookupError):
            raise ValueError("not an audit entry") from None
        if not (_typed(actor, _ACTOR_TYPES) and _typed(entry, _ENTRY_TYPES)):
            raise ValueError("not an audit entry")
        return entry

    def as_dict(self) -> dict[str, Any]:
        """The entry as the interface prints it."""
        return asdict(self) | {"hash": self.hash}

    def log_line(self, field: str = LOG_FIELD) -> str:
        """The entry as a log line: Elastic Common Schema, and the whole of it in one field, by which the chain is known."""
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
    """The one JSON text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def chain_hash(prev: str, text: str) -> str:
    """SHA-256 in hex of the predecessor's hash and an entry's text."""
    return hashlib.sha256((prev + text).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the audit: `removed`, `changed`, `inserted`, `reordered`, `rewritten` or `log_changed`."""

    kind: str
    seq: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands at one place of the stream, as it stands there."""

    place: str
    text: bytes
    hash: bytes

    @property
    def entry(self) -> AuditEntry | None:
        """The entry; None where the text is not one."""
        try:
            return AuditEntry.parse(self.text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the server itself remembers of the stream, also of entries that are gone (XINFO STREAM)."""

    added: int = 0
    last_id: str = "0-0"
    max_deleted_id: str = "0-0"


@dataclass(frozen=True, slots=True)
class Logged:
    """An audit record in a log: `line` counts from 1; `intact` says whether its hash is that of its content."""

    line: int
    seq: int
    at: datetime
    hash: str
    intact: bool


def check_chain(stored: Iterable[Stored], facts: StreamFacts) -> tuple[dict[int, str], list[Finding]]:
    """Walk the stream in its order.

    Returns:
        The hash of each entry by its sequence number, and what is wrong.
    """
    entries: dict[int, AuditEntry] = {}
    hashes: dict[int, str] = {}
    findings: list[Finding] = []
    highest = strangers = 0
    for item in stored:
        entry = item.entry
        if entry is None:
            strangers += 1
            findings.append(Finding("inserted", None, f"at {item.place} stands what is no audit entry"))
            continue
        seq = entry.seq
        if seq in entries:
            strangers += 1
            findings.append(Finding("inserted", seq, f"at {item.place} stands a second entry {seq}"))
            continue
        if seq < highest:
            findings.append(Finding("reordered", seq, f"entry {seq} stands after entry {highest}"))
        highest = max(highest, seq)
        entries[seq], hashes[seq] = entry, item.hash.decode(errors="replace")
        if chain_hash(entry.prev, item.text.decode(errors="replace")) != hashes[seq]:
            findings.append(Finding("changed", seq, f"entry {seq} does not have its hash"))
    findings += _check_links(entries, hashes)
    if facts.added - strangers != highest:
        findings.append(
            Finding("removed", highest + 1, f"{facts.added} entries were added, the newest one there is {highest}")
        )
    if facts.max_deleted_id != "0-0" and not any(finding.kind == "removed" for finding in findings):
        findings.append(Finding("removed", None, f"entries were deleted, the last of them {facts.max_deleted_id}"))
    return hashes, findings


def _check_links(entries: Mapping[int, AuditEntry], hashes: Mapping[int, str]) -> Iterator[Finding]:
    """Compare each entry with its predecessor. The oldest has none: what came before went with its age."""
    before = None
    for seq in sorted(entries):
        expected = GENESIS if seq == 1 else hashes.get(seq - 1)
        if expected is not None and entries[seq].prev != expected:
            yield Finding("changed", seq - 1 or 1, f"entry {seq} continues another entry than the one before it")
        if before is not None and seq > before + 1:
            missing = str(before + 1) if seq == before + 2 else f"{before + 1} to {seq - 1}"
            yield Finding("removed", before + 1, f"missing between the others: {missing}")
        before = seq


def read_log(lines: Iterable[str], field: str = LOG_FIELD) -> Iterator[Logged]:
    """The audit records of a chain among log lines. A line may have something before its JSON, as log collectors put there."""
    for number, line in enumerate(lines, 1):
        if field not in line:
            continue
        try:
            record = _load(line[line.index("{") :])[field]
            claimed = record.pop("hash")
            entry = AuditEntry.of(record)
            at = datetime.fromisoformat(entry.at).astimezone()
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            continue  # torn, or not one of ours: no evidence of anything
        yield Logged(number, entry.seq, at, str(claimed), entry.hash == claimed)


def check_log(logged: Iterable[Logged], hashes: Mapping[int, str], oldest: datetime) -> Iterator[Finding]:
    """Compare log records with the stream.

    Args:
        logged: the records.
        hashes: what `check_chain` saw.
        oldest: entries of before may be gone from the stream by their age.
    """
    lowest, highest = min(hashes, default=1), max(hashes, default=0)
    missing = []
    for record in logged:
        if not record.intact:
            yield Finding("log_changed", record.seq, f"line {record.line} of the log does not have its hash")
        elif record.seq in hashes:
            if hashes[record.seq] != record.hash:
                yield Finding("rewritten", record.seq, f"entry {record.seq} is another one in the log")
        elif record.at >= oldest and not lowest < record.seq < highest:  # a gap between is the chain's finding
            missing.append(record.seq)
    if missing:
        yield Finding(
            "removed",
            min(missing),
            f"{len(set(missing))} entries of the log are missing, {min(missing)} to {max(missing)}",
        )


def _load(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("not JSON that anyone wrote") from None


def _typed(thing: object, types: Mapping[str, type]) -> bool:
    values = {name: getattr(thing, name) for name in types}
    return all(isinstance(value, types[name]) and not isinstance(value, bool) for name, value in values.items())
