"""Elements appended by a stolen login block nobody, are found, and can be recorded as known."""

from __future__ import annotations

import dataclasses
import json

import pytest
import redis

from mission.audit.entry import GENESIS, AuditEntry
from mission.audit.log import AuditLog
from mission.store.names import Key
from tests.unit.mission.audit.conftest import ACTOR

FORGED = AuditEntry(9, "2026-01-01T00:00:00Z", ACTOR, "reveal", None, None, "", "", "f" * 64)
NOT_TYPED = FORGED.element.replace(b'"anna"', b"7")
NOT_CANONICAL = json.dumps(FORGED.as_dict(), indent=1).encode()
WRONG_HASH = FORGED.element.replace(FORGED.hash.encode(), b"e" * 64)
NO_ENTRIES = [
    *(
        b"",
        b"x",
        b"{}",
        b"[]",
        b"7",
        b"null",
        b"\xff\x00",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"seq":' + b"9" * 4300 + b"}",
    ),
    *(NOT_TYPED, FORGED.element.replace(b'"seq":9', b'"seq":0'), FORGED.element.replace(b'"seq":9', b'"seq":true')),
    FORGED.element.replace(b'"seq":9', b'"seq":' + b"9" * 4299),
]


def append(audit: AuditLog, count: int = 1) -> list[int]:
    """Append entries; return their numbers."""
    return [
        audit.append("reveal", mission_id=None, key_id=None, why="a test", outcome="started").seq for _ in range(count)
    ]


def found(audit: AuditLog, log: list[str] | None = None) -> list[tuple[str, int | None, bool]]:
    """Kind and number of each finding, and whether it is known."""
    return [(finding.kind, finding.seq, bool(finding.known)) for finding in audit.verify(log or [])]


@pytest.mark.parametrize("element", NO_ENTRIES)
def test_what_is_no_entry_blocks_nobody_and_is_found(
    audit: AuditLog, client: redis.Redis, lines: list[str], element: bytes
) -> None:
    append(audit, 2)
    client.rpush(Key.AUDIT, element)
    assert append(audit, 2) == [3, 4]
    assert found(audit, lines) == [("inserted", None, False)]
    assert [entry.seq for entry in audit.entries()] == [1, 2, 3, 4]


@pytest.mark.parametrize("element", [WRONG_HASH, NOT_CANONICAL])
def test_an_entry_that_is_not_as_it_was_written_blocks_nobody_and_is_found(
    audit: AuditLog, client: redis.Redis, element: bytes
) -> None:
    append(audit, 2)
    client.rpush(Key.AUDIT, element)
    assert append(audit, 2) == [3, 4]
    assert found(audit) == [("changed", 9, False)]


def test_thousands_of_strangers_block_nobody_and_are_one_finding(audit: AuditLog, client: redis.Redis) -> None:
    append(audit, 2)
    client.rpush(Key.AUDIT, *(b"stranger %d" % number for number in range(2000)))
    assert append(audit) == [3]
    (finding,) = audit.verify()
    assert "2000 elements" in finding.detail


def test_an_audit_of_nothing_but_strangers_begins_anew(audit: AuditLog, client: redis.Redis) -> None:
    client.rpush(Key.AUDIT, "", "x")
    assert append(audit) == [1]
    assert found(audit) == [("inserted", None, False)]


def test_a_forged_entry_blocks_nobody_and_is_found_while_what_follows_is_whole(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    append(audit, 2)
    client.rpush(Key.AUDIT, FORGED.element)
    assert append(audit, 2) == [10, 11]
    assert found(audit, lines) == [("removed", 3, False)]


def test_an_entry_that_is_appended_again_is_found(audit: AuditLog, client: redis.Redis, lines: list[str]) -> None:
    append(audit, 3)
    client.rpush(Key.AUDIT, client.lrange(Key.AUDIT, 0, 0)[0])
    assert append(audit) == [2]
    assert found(audit, lines) == [("inserted", 1, False)]


@pytest.mark.parametrize("seq", [2**53 - 2, 2**53 - 1])
def test_the_highest_number_that_one_may_forge_is_followed_by_entries(
    audit: AuditLog, client: redis.Redis, seq: int
) -> None:
    append(audit)
    client.rpush(Key.AUDIT, dataclasses.replace(FORGED, seq=seq).element)
    append(audit, 3)
    assert found(audit) == [("removed", 2, False)]


def test_a_forgery_that_continues_the_chain_is_not_found_but_has_no_line_in_the_log(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    """The limit of the audit: a login that may append can give a false identity."""
    append(audit, 2)
    newest = audit.entries()[-1]
    forged = dataclasses.replace(FORGED, seq=newest.seq + 1, prev=newest.hash)
    client.rpush(Key.AUDIT, forged.element)
    assert append(audit) == [4]
    assert found(audit, lines) == []
    assert [json.loads(line)["decoder.audit"]["seq"] for line in lines] == [1, 2, 4]


def test_mending_puts_what_is_known_on_record_and_hides_nothing(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    append(audit, 2)
    client.rpush(Key.AUDIT, "x", "y")
    append(audit)
    client.rpush(Key.AUDIT, FORGED.element, "z")
    before = client.lrange(Key.AUDIT, 0, -1)
    assert len(audit.mend(why="incident 4711")) == 2
    assert client.lrange(Key.AUDIT, 0, -2) == before
    assert found(audit, lines) == [("inserted", None, True), ("removed", 4, True)]
    known = audit.verify()[0].known
    assert "by reader: incident 4711" in known
    assert audit.mend(why="again") == []


def test_what_comes_after_a_mend_is_a_finding_of_its_own(audit: AuditLog, client: redis.Redis) -> None:
    append(audit)
    client.rpush(Key.AUDIT, "x")
    audit.mend(why="incident 4711")
    client.rpush(Key.AUDIT, "x")
    assert found(audit) == [("inserted", None, True), ("inserted", None, False)]


def test_what_is_removed_beside_a_mended_stranger_is_a_finding(audit: AuditLog, client: redis.Redis) -> None:
    append(audit, 3)
    client.rpush(Key.AUDIT, "x")
    audit.mend(why="incident 4711")
    client.lrem(Key.AUDIT, 1, client.lindex(Key.AUDIT, 2))  # type: ignore[arg-type]  # bytes
    assert False in {known for *_, known in found(audit)}


def test_a_removed_entry_can_be_mended_but_not_against_the_log(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    append(audit, 3)
    client.lpop(Key.AUDIT)
    audit.mend(why="a restored backup")
    assert found(audit) == [("removed", 1, True)]
    assert found(audit, lines) == [("removed", 1, True), ("removed", 1, False)]


def test_more_findings_than_one_mend_names_are_mended_by_several(audit: AuditLog, client: redis.Redis) -> None:
    for _ in range(120):
        client.rpush(Key.AUDIT, "x")
        append(audit)
    assert len(audit.mend(why="incident 4711")) == 120
    assert {known for *_, known in found(audit)} == {True}
    assert [entry.action for entry in audit.entries(last=3)] == ["reveal", "mend", "mend"]


def test_a_mend_that_does_not_continue_the_chain_mends_nothing(audit: AuditLog, client: redis.Redis) -> None:
    append(audit)
    client.rpush(Key.AUDIT, "x")
    append(audit)
    mark = audit.verify()[0].mark
    forged = dataclasses.replace(FORGED, action="mend", outcome=f"known: {mark}", prev=GENESIS)
    client.rpush(Key.AUDIT, forged.element)
    assert [known for *_, known in found(audit)] == [False, False]
