"""The auditor's trim removes old entries on record; removals by anybody else are found without a log."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
import redis

from mission.audit.entry import GENESIS, AuditEntry
from mission.audit.log import AuditLog
from mission.errors import AuditError
from mission.store.names import Key
from tests.unit.mission.audit.test_strangers import FORGED, append, found

DAY = 86400.0


def aged(client: redis.Redis, *days: float | str) -> None:
    """Chained entries of the given ages in days, or with the given times."""
    prev = GENESIS
    for seq, age in enumerate(days, 1):
        at = age if isinstance(age, str) else (datetime.now(UTC) - timedelta(days=age)).isoformat()
        entry = dataclasses.replace(FORGED, seq=seq, at=at, prev=prev)
        prev = entry.hash
        client.rpush(Key.AUDIT, entry.element)


def test_what_is_older_goes_and_the_cut_is_on_record(audit: AuditLog, client: redis.Redis) -> None:
    aged(client, 9, 8, 3, 0)
    last = audit.entries()[1]
    assert audit.trim(7 * DAY, why="older than 7d") == 2
    assert [entry.seq for entry in audit.entries()] == [3, 4, 5]
    trim = audit.entries()[-1]
    assert (trim.action, trim.why, trim.cut) == ("trim", "older than 7d", last.link)
    assert audit.verify() == []


def test_cuts_follow_each_other(audit: AuditLog, client: redis.Redis) -> None:
    aged(client, 9, 6, 3, 0)
    for days, went in ((7, 1), (5, 1), (2, 1), (2, 0)):
        assert audit.trim(days * DAY, why="a test") == went
        assert audit.verify() == []


def test_all_of_it_may_go(audit: AuditLog, client: redis.Redis) -> None:
    aged(client, 9, 8)
    assert audit.trim(DAY, why="a test") == 2
    assert [entry.action for entry in audit.entries()] == ["trim"]
    append(audit)
    assert audit.verify() == []


def test_where_nothing_is_old_nothing_is_recorded(audit: AuditLog, client: redis.Redis) -> None:
    assert audit.trim(DAY, why="a test") == 0
    append(audit)
    assert audit.trim(DAY, why="a test") == 0
    assert client.llen(Key.AUDIT) == 1


def test_strangers_among_the_old_go_with_them_and_those_among_the_young_stay(
    audit: AuditLog, client: redis.Redis
) -> None:
    aged(client, 9, 8)
    client.rpush(Key.AUDIT, "x", "y")
    append(audit)
    client.rpush(Key.AUDIT, "z")
    assert audit.trim(DAY, why="a test") == 4
    assert found(audit) == [("inserted", None, False)]


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "2999-01-01T00:00:00Z", -1 / 24, "soon"])
def test_a_forged_time_does_not_keep_what_follows(audit: AuditLog, client: redis.Redis, at: float | str) -> None:
    aged(client, 9, at, 8, 0)
    assert audit.trim(DAY, why="a test") == 3
    assert audit.verify() == []


def test_a_forged_time_of_long_ago_takes_no_young_entry_along(audit: AuditLog, client: redis.Redis) -> None:
    aged(client, 9, 0, 400, 0)
    assert audit.trim(DAY, why="a test") == 1
    assert audit.verify() == []


@pytest.mark.parametrize("ttl", [DAY, 30 * DAY])
def test_a_cut_by_anybody_else_is_found_without_a_log(audit: AuditLog, client: redis.Redis, ttl: float) -> None:
    aged(client, 9, 0, 0, 0)
    assert audit.trim(ttl, why="a test") == (ttl == DAY)
    client.ltrim(Key.AUDIT, 2, -1)
    assert [kind for kind, *_ in found(audit)] == ["removed"]


def test_a_forged_trim_is_found_and_can_be_mended(audit: AuditLog, client: redis.Redis) -> None:
    append(audit, 3)
    newest = audit.entries()[-1]
    outcome = f"removed 2, the last of them was entry 2 {'e' * 64}"
    forged = dataclasses.replace(FORGED, seq=4, prev=newest.hash, action="trim", outcome=outcome)
    client.rpush(Key.AUDIT, forged.element)
    assert found(audit) == [("inserted", 1, False)]
    audit.mend(why="incident 4711")
    assert found(audit) == [("inserted", 1, True)]


def test_the_log_may_hold_what_a_trim_removed_if_it_holds_that_trim(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    aged(client, 9, 0)
    lines.append(audit.entries()[0].log_line())
    audit.trim(DAY, why="a test")
    assert audit.verify(lines) == []
    assert found(audit, lines[:-1]) == [("removed", 1, False)]


def test_who_comes_between_makes_the_cut_begin_anew(
    audit: AuditLog, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(client, 9, 0)
    run, tries = audit._scripts.run, []

    def overtaken(*args: object, key: str) -> object:
        tries.append(args)
        if len(tries) == 1:
            client.rpush(Key.AUDIT, "x")
        return run(*args, key=key)  # type: ignore[arg-type]  # what trim passes

    monkeypatch.setattr(audit._scripts, "run", overtaken)
    assert audit.trim(DAY, why="a test") == 1
    assert (len(tries), found(audit)) == (2, [("inserted", None, False)])


def test_two_cuts_at_once_do_not_cut_twice(
    audit: AuditLog, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(client, 9, 8, 0)
    other = AuditLog(client, FORGED.actor, lambda _line: None)
    put = audit._put

    def overtaken(*args: object) -> AuditEntry:
        other.trim(DAY, why="the other")
        return put(*args)  # type: ignore[arg-type]  # what trim passes

    monkeypatch.setattr(audit, "_put", overtaken)
    monkeypatch.setattr("mission.audit.log.time.sleep", lambda seconds: None)
    with pytest.raises(AuditError, match="too many other writers"):
        audit.trim(DAY, why="a test")
    assert [entry.action for entry in audit.entries()] == ["reveal", "trim"]
    assert audit.verify() == []


def test_a_list_that_is_cut_while_it_is_read_is_no_finding_but_a_reason_to_try_again(
    audit: AuditLog, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.audit.log._PAGE", 1)
    append(audit, 3)
    page = audit._page

    def cutting(start: int, end: int) -> list[bytes]:
        if start == 1:
            client.lpop(Key.AUDIT)
        return page(start, end)

    monkeypatch.setattr(audit, "_page", cutting)
    with pytest.raises(AuditError, match="try again"):
        audit.verify()
