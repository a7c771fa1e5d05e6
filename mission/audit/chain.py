"""Checks of the chain, and the choice of entries that are old enough to remove. No Redis here.

The chain itself shows entries that were removed, changed or inserted. If its newest end was removed, or all of it was rewritten
or emptied, only a comparison with the log shows it: log lines carry the same entries with their hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from mission.audit.entry import LOG_FIELD, AuditEntry, Link, chain_hash, entry_of, load_json


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the audit: `removed`, `changed`, `inserted`, `rewritten` or `log_changed`.

    A mend names it by its `mark`, SHA-256 in hex; a finding from the log has no mark. `known` says who mended it,
    when and why, and is empty if nobody did.
    """

    kind: str
    seq: int | None
    detail: str
    mark: str = ""
    known: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """An audit record in a log: `line` counts from 1; `intact` says whether its hash matches its content."""

    line: int
    seq: int
    hash: str
    intact: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking the list: each entry's number by its hash, the newest trim, and the findings."""

    seqs: Mapping[str, int]
    trim: AuditEntry | None
    findings: list[Finding]


@dataclass(slots=True)
class _Strangers:
    """Adjacent elements after the entry `before` that do not continue the chain."""

    before: Link
    mark: str = field(init=False)
    count: int = 0
    first: AuditEntry | None = None
    changed: int | None = None

    def __post_init__(self) -> None:
        self.mark = self.before.hash

    def add(self, element: bytes, entry: AuditEntry | None) -> None:
        self.mark = chain_hash(self.mark, element.decode("latin-1"))  # maps any bytes one to one
        self.count += 1
        self.first = self.first or entry
        if entry is None and self.changed is None:
            with suppress(ValueError):
                self.changed = AuditEntry.parse(element).seq

    def finding(self) -> Finding:
        kind: str
        seq: int | None
        if self.changed is not None:
            kind, seq, detail = "changed", self.changed, f"the hash of entry {self.changed} does not match its content"
        elif self.first is not None:
            kind, seq, detail = _broken(self.before, self.first)
        else:
            kind, seq, detail = "inserted", None, f"an element after entry {self.before.seq} is not an audit entry"
        more = f" ({self.count} elements there do not fit the chain)" if self.count > 1 else ""
        return Finding(kind, seq, detail + more, self.mark)


def check_chain(elements: Iterable[bytes]) -> Checked:
    """Check the list, oldest element first."""
    seqs: dict[str, int] = {}
    findings: list[Finding] = []
    known: dict[str, str] = {}
    oldest = trim = strangers = None
    before = Link()
    for element in elements:
        entry = entry_of(element)
        if entry is None or (oldest and not entry.continues(before)):
            strangers = strangers or _Strangers(before)
            strangers.add(element, entry)
        else:
            findings += [strangers.finding()] if strangers else []
            strangers = None
            trim = entry if entry.cut else trim
            known |= dict.fromkeys(entry.mended, f"{entry.at} by {entry.actor.redis_user}: {entry.why}")
        if entry:
            oldest, before = oldest or entry, entry.link
            seqs[before.hash] = before.seq
    findings += [strangers.finding()] if strangers else []
    start = (trim and trim.cut) or Link()
    if oldest and not oldest.continues(start):
        kind, seq, _ = _broken(start, oldest)
        detail = f"the oldest entry is {oldest.seq}, which does not continue entry {start.seq}"
        findings.insert(0, Finding(kind, seq, detail, chain_hash(start.hash, oldest.element.decode())))
    return Checked(seqs, trim, [replace(finding, known=known.get(finding.mark, "")) for finding in findings])


def _broken(before: Link, entry: AuditEntry) -> tuple[str, int, str]:
    """Kind, number and detail of the finding for an entry that does not continue its predecessor."""
    if entry.seq > before.next_seq:
        detail = f"entry {entry.seq} follows entry {before.seq}: those between were removed, or it was inserted"
        return "removed", before.next_seq, detail
    if entry.seq == before.next_seq:
        return "changed", before.seq or 1, f"entry {entry.seq} does not continue the entry before it"
    return "inserted", entry.seq, f"entry {entry.seq} follows entry {before.seq}, out of order"


def read_log(lines: Iterable[str], field: str = LOG_FIELD) -> Iterator[Logged]:
    """The audit records of a chain among log lines. A line may have a prefix before its JSON: log collectors add one."""
    for number, line in enumerate(lines, 1):
        if field not in line:
            continue
        try:
            record = load_json(line[line.index("{") :])[field]
            entry = AuditEntry.of(record)
            yield Logged(number, entry.seq, str(record["hash"]), entry.hash == record["hash"])
        except (ValueError, LookupError, TypeError):
            continue  # truncated, or not an audit record: no evidence of anything


def check_log(logged: Collection[Logged], checked: Checked) -> Iterator[Finding]:
    """Compare log records with the list. The list may lack the entries that a trim removed, if that trim is also in the log."""
    seqs, trim = checked.seqs, checked.trim
    there = set(seqs.values())
    cut = trim.cut if trim and trim.hash in {record.hash for record in logged} else None
    missing = []
    for record in logged:
        if not record.intact:
            yield Finding(
                "log_changed", record.seq, f"the hash on line {record.line} of the log does not match its content"
            )
        elif record.hash in seqs or (cut and record.seq <= cut.seq):
            continue
        elif record.seq in there:
            yield Finding("rewritten", record.seq, f"entry {record.seq} differs from the log")
        else:
            missing.append(record.seq)
    if missing:
        yield Finding(
            "removed",
            min(missing),
            f"{len(set(missing))} entries of the log are missing, {min(missing)} to {max(missing)}",
        )


def expired(elements: Iterable[bytes], oldest: datetime, latest: datetime) -> tuple[int, bytes, Link] | None:
    """The part of the list to remove: up to the last entry from before `oldest`, and the invalid elements right after it.

    An entry from after `latest` does not end this part: a forged date must not keep all later entries forever.

    Returns:
        The number of elements, the last of them, and the last entry among them; None if nothing is old.
    """
    found: tuple[int, bytes, Link] | None = None
    for place, element in enumerate(elements):
        entry = entry_of(element)
        if entry is None:
            found = (place + 1, element, found[2]) if found and found[0] == place else found
        elif entry.time is None or entry.time < oldest:
            found = (place + 1, element, entry.link)
        elif entry.time <= latest:
            break
    return found
