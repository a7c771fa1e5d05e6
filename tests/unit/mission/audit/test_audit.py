from __future__ import annotations

import dataclasses
import io
import json
import os
import pwd
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import redis

from mission.audit.entry import GENESIS, Actor, AuditEntry
from mission.audit.log import AuditLog, find_actor
from mission.errors import AuditError
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import Key
from tests.unit.mission.audit.conftest import ACTOR

NOWHERE = Settings.from_env(redis_url="redis://127.0.0.1:1/0")
MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def _append(audit: AuditLog, count: int = 1, mission_id: str = MISSION) -> list[AuditEntry]:
    return [
        audit.append("reveal", mission_id=mission_id, key_id="00ff", why=f"case {number}", outcome="started")
        for number in range(count)
    ]


def _stored(client: redis.Redis) -> list[bytes]:
    return cast("list[bytes]", client.lrange(Key.AUDIT, 0, -1))


def _kinds(audit: AuditLog, log: list[str] | None = None) -> set[tuple[str, int | None]]:
    return {(finding.kind, finding.seq) for finding in audit.verify(log or [])}


def _rebuild(client: redis.Redis, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Rewrite the list, as an administrator of the server can."""
    elements = change(_stored(client))
    client.delete(Key.AUDIT)
    client.rpush(Key.AUDIT, *elements)


def _forge(*, why: str) -> Callable[[list[bytes]], list[bytes]]:
    """Change the reason of every entry and recompute a valid chain."""

    def change(elements: list[bytes]) -> list[bytes]:
        forged, prev = [], GENESIS
        for element in elements:
            entry = dataclasses.replace(AuditEntry.parse(element), why=why, prev=prev)
            prev = entry.hash
            forged.append(entry.element)
        return forged

    return change


def test_an_entry_says_who_did_what_to_which_mission_with_which_key_why_and_how_it_ended(audit: AuditLog) -> None:
    _append(audit)
    (entry,) = audit.entries()
    assert entry.actor == ACTOR
    assert (entry.action, entry.mission_id, entry.key_id, entry.why, entry.outcome) == (
        "reveal",
        MISSION,
        "00ff",
        "case 0",
        "started",
    )
    assert abs(datetime.now(UTC) - datetime.fromisoformat(entry.at)) < timedelta(minutes=1)


def test_entries_are_canonical_json_numbered_from_1_and_each_holds_the_hash_of_the_one_before(
    audit: AuditLog, client: redis.Redis
) -> None:
    entries = _append(audit, 3)
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert [entry.prev for entry in entries] == [GENESIS, entries[0].hash, entries[1].hash]
    elements = _stored(client)
    assert [json.loads(element) for element in elements] == [entry.as_dict() for entry in entries]
    assert elements[0].decode() == json.dumps(json.loads(elements[0]), sort_keys=True, separators=(",", ":"))


def test_the_actor_is_the_redis_login_the_systems_user_and_the_host_whatever_the_environment_says(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert find_actor(client) == Actor("default", pwd.getpwuid(os.getuid()).pw_name, socket.gethostname())


def test_a_user_without_a_name_goes_by_its_number(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_000)
    assert find_actor(client).os_user == "2000000000"


@pytest.mark.server("another login")
def test_a_login_that_may_not_ask_who_it_is_goes_by_the_name_it_gave(client: redis.Redis, settings: Settings) -> None:
    client.acl_setuser("mute", enabled=True, passwords=["+pw"], commands=["+ping"], keys=["*"])
    try:
        url = settings.redis_url.get_secret_value()
        with redis.Redis.from_url(url, username="mute", password="pw") as mute:
            mute.connection_pool.connection_kwargs |= {"username": "mute", "password": "pw"}
            assert find_actor(mute).redis_user == "mute"
    finally:
        client.acl_deluser("mute")


def test_each_entry_has_a_log_line_with_sequence_and_hash(audit: AuditLog, lines: list[str]) -> None:
    entries = _append(audit, 2)
    records = [json.loads(line)["decoder.audit"] for line in lines]
    assert [(record["seq"], record["hash"]) for record in records] == [(entry.seq, entry.hash) for entry in entries]
    assert "\n" not in "".join(lines)


def test_the_log_goes_to_stderr_by_default(client: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    _append(AuditLog(client, ACTOR))
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event.action"] == "reveal"
    assert captured.out == ""


def test_a_person_at_a_terminal_is_told_once_that_there_is_a_record(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    _append(AuditLog(client, ACTOR), 3)
    assert terminal.getvalue() == "note: recorded in the audit: reveal\n"


def test_when_the_log_line_cannot_be_written_the_append_fails(client: redis.Redis) -> None:
    def full(_line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(AuditError, match="No space left"):
        _append(AuditLog(client, ACTOR, full))


def test_a_redis_that_is_away_is_said_in_one_line() -> None:
    with connect(NOWHERE) as nowhere:
        audit = AuditLog(nowhere, ACTOR, print)
        with pytest.raises(AuditError, match=r"^the audit could not be written: .*") as caught:
            _append(audit)
        assert "\n" not in str(caught.value)
        with pytest.raises(AuditError, match="could not be read"):
            audit.verify()


def test_writers_side_by_side_make_one_chain(settings: Settings, audit: AuditLog) -> None:
    logs: list[list[str]] = [[] for _ in range(4)]

    def write(log: list[str]) -> None:
        with connect(settings) as own:
            _append(AuditLog(own, ACTOR, log.append), 25)

    threads = [threading.Thread(target=write, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.seq for entry in audit.entries()] == list(range(1, 101))
    assert audit.verify([line for log in logs for line in log]) == []


def test_a_writer_that_always_comes_too_late_gives_up(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = AuditLog(client, ACTOR, print), AuditLog(client, ACTOR, print)
    run = slow._scripts.run

    def overtaken(*args: object, key: str) -> object:
        _append(fast)
        return run(*args, key=key)  # type: ignore[arg-type]  # what append passes

    monkeypatch.setattr(slow._scripts, "run", overtaken)
    monkeypatch.setattr("mission.audit.log.time.sleep", lambda seconds: None)
    with pytest.raises(AuditError, match="too many other writers"):
        _append(slow)


def test_entries_of_one_mission_and_the_newest_ones_are_found(audit: AuditLog) -> None:
    _append(audit, 2)
    _append(audit, 1, OTHER)
    _append(audit, 2)
    assert [entry.seq for entry in audit.entries(mission_id=OTHER)] == [3]
    assert [entry.seq for entry in audit.entries(last=2)] == [4, 5]
    assert [entry.seq for entry in audit.entries(last=3, mission_id=MISSION)] == [2, 4, 5]


def test_an_empty_audit_and_one_of_many_pages_are_whole(
    audit: AuditLog, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.audit.log._PAGE", 2)
    assert (audit.verify(), audit.entries()) == ([], [])
    _append(audit, 5)
    assert [entry.seq for entry in audit.entries()] == [1, 2, 3, 4, 5]
    assert audit.verify(lines) == []


def _remove(client: redis.Redis, place: int) -> None:
    _rebuild(client, lambda elements: elements[:place] + elements[place + 1 :])


@pytest.mark.parametrize("place", [0, 2])
def test_a_removed_entry_is_found_without_a_log(audit: AuditLog, client: redis.Redis, place: int) -> None:
    _append(audit, 5)
    _remove(client, place)
    assert _kinds(audit) == {("removed", place + 1)}


def test_a_removed_newest_entry_is_found_with_the_log_alone(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    _append(audit, 3)
    client.rpop(Key.AUDIT)
    assert _kinds(audit) == set()
    assert _kinds(audit, lines) == {("removed", 3)}
    _append(audit)
    assert _kinds(audit, lines) == {("rewritten", 3)}


def test_a_deleted_list_is_found_with_the_log(audit: AuditLog, client: redis.Redis, lines: list[str]) -> None:
    _append(audit, 3)
    client.delete(Key.AUDIT)
    assert _kinds(audit) == set()
    assert _kinds(audit, lines) == {("removed", 1)}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_entry_is_found(audit: AuditLog, client: redis.Redis, place: int) -> None:
    _append(audit, 3)

    def change(elements: list[bytes]) -> list[bytes]:
        elements[place] = elements[place].replace(b"case", b"game")
        return elements

    _rebuild(client, change)
    assert _kinds(audit) == {("changed", place + 1)} | ({("removed", 1)} if place == 0 else set())


def test_an_entry_that_was_changed_with_its_hash_is_found_by_the_next(audit: AuditLog, client: redis.Redis) -> None:
    _append(audit, 3)

    def change(elements: list[bytes]) -> list[bytes]:
        elements[1] = dataclasses.replace(AuditEntry.parse(elements[1]), why="forged").element
        return elements

    _rebuild(client, change)
    assert _kinds(audit) == {("changed", 2)}


def test_a_first_entry_that_continues_nothing_is_found(audit: AuditLog, client: redis.Redis) -> None:
    forged = AuditEntry(1, "2026-01-01T00:00:00Z", ACTOR, "reveal", None, None, "", "", "f" * 64)
    client.rpush(Key.AUDIT, forged.element)
    assert _kinds(audit) == {("changed", 1)}


def test_reordered_entries_are_found(audit: AuditLog, client: redis.Redis) -> None:
    _append(audit, 3)
    _rebuild(client, lambda elements: [elements[0], elements[2], elements[1]])
    assert _kinds(audit) == {("removed", 2)}


def test_a_wholly_rewritten_list_is_found_with_the_log_alone(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    _append(audit, 3)
    _rebuild(client, _forge(why="nothing to see"))
    assert _kinds(audit) == set()
    assert _kinds(audit, lines) == {("rewritten", 1), ("rewritten", 2), ("rewritten", 3)}


@pytest.mark.parametrize("at", ["2999-01-01", "9999-12-31T23:59:59-23:59", "soon"])
def test_a_log_line_with_a_time_that_nobody_of_us_wrote_does_not_end_verifying(audit: AuditLog, at: str) -> None:
    line = AuditEntry(7, at, ACTOR, "reveal", None, None, "", "", GENESIS).log_line()
    assert _kinds(audit, [line]) <= {("removed", 7)}


def test_a_changed_log_line_is_found(audit: AuditLog, lines: list[str]) -> None:
    _append(audit, 2)
    assert _kinds(audit, [lines[0].replace("case 0", "case 9"), lines[1]]) == {("log_changed", 1)}


def test_other_lines_of_the_log_and_a_collectors_prefix_do_not_count(
    audit: AuditLog, client: redis.Redis, lines: list[str]
) -> None:
    _append(audit, 2)
    noise = [
        "",
        "hello",
        "{",
        '{"message":"x"}',
        '"decoder.audit"',
        '{"decoder.audit":1}',
        '{"decoder.audit":{"seq":1}}',
    ]
    log = [*noise, *(f"2026-10-09T10:00:00Z stderr F {line}\n" for line in lines)]
    assert audit.verify(log) == []
    client.delete(Key.AUDIT)
    assert _kinds(audit, log) == {("removed", 1)}


def test_a_log_line_of_the_keys_chain_is_none_of_the_other_chains(client: redis.Redis) -> None:
    lines: list[str] = []
    keys = AuditLog(client, emit=lines.append, chain=Key.AUDIT_KEYS)
    keys.append("key-loaded", mission_id=None, key_id=None, why="a test", outcome="done")
    assert keys.verify(lines) == AuditLog(client).verify(lines) == []
