from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.errors import (
    AuditError,
    KeyFormatError,
    LedgerUnavailable,
    ResultUnavailable,
    SealError,
    SettingsError,
)
from mission.model import Secret
from mission.operate.results import ResultReader
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import Key, entry_key, result_key

NOWHERE = Settings.from_env(redis_url="redis://127.0.0.1:1/0")
MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
IDENTITY = Identity(X25519, b"i" * 32)
KEY_ID = IDENTITY.key_id.hex()
SECRETS = [Secret("marker", "API_KEY", "canary-4711", 1, 2)]


@pytest.fixture
def reader(client: redis.Redis, audit: AuditLog) -> ResultReader:
    """A reader with one identity."""
    return ResultReader(client, [IDENTITY], audit)


def _finish(client: redis.Redis, mission_id: str = MISSION, identity: Identity = IDENTITY, token: int = 3) -> bytes:
    """Put a succeeded mission into the ledger."""
    record = seal_secrets(identity.recipient, SECRETS, mission_id=mission_id, token=token)
    client.hset(entry_key(mission_id), mapping={"state": "succeeded", "token": token})
    client.set(result_key(mission_id, token), record)
    return record


def _outcomes(audit: AuditLog) -> list[str]:
    return [entry.outcome for entry in audit.entries()]


def test_a_read_is_on_record_with_its_start_and_its_end(
    client: redis.Redis, reader: ResultReader, audit: AuditLog
) -> None:
    _finish(client)
    assert reader.reveal(MISSION, reason="  incident 4711 ") == SECRETS
    entries = audit.entries()
    assert [(e.action, e.mission_id, e.key_id, e.why, e.outcome) for e in entries] == [
        ("reveal", MISSION, KEY_ID, "incident 4711", "started"),
        ("reveal", MISSION, KEY_ID, "incident 4711", "opened"),
    ]


@pytest.mark.server("INFO")
def test_nothing_is_read_when_the_start_cannot_be_recorded(client: redis.Redis, reader: ResultReader) -> None:
    _finish(client)
    client.set(Key.AUDIT, "not a stream")
    client.config_resetstat()
    with pytest.raises(AuditError):
        reader.reveal(MISSION, reason="incident 4711")
    stats = client.info("commandstats")
    assert "cmdstat_hmget" not in stats
    assert "cmdstat_get" not in stats


def test_nothing_is_returned_when_the_end_cannot_be_recorded(client: redis.Redis) -> None:
    _finish(client)
    lines: list[str] = []

    def full_after_one(line: str) -> None:
        if lines:
            raise OSError(28, "No space left on device")
        lines.append(line)

    audit = AuditLog(client, Actor("reader", "anna", "desk-1"), full_after_one)
    with pytest.raises(AuditError, match="No space left"):
        ResultReader(client, [IDENTITY], audit).reveal(MISSION, reason="incident 4711")


def _changed(client: redis.Redis) -> None:
    record = bytearray(_finish(client))
    record[-1] ^= 1
    client.set(result_key(MISSION, 3), bytes(record))


def _of_another_mission(client: redis.Redis) -> None:
    _finish(client)
    client.set(result_key(MISSION, 3), _finish(client, OTHER))


def _of_another_claim(client: redis.Redis) -> None:
    _finish(client)
    client.set(result_key(MISSION, 3), _finish(client, token=2))
    client.hset(entry_key(MISSION), "token", 3)


def _of_another_key(client: redis.Redis) -> None:
    _finish(client, identity=Identity(X25519, b"o" * 32))


def _no_record(client: redis.Redis) -> None:
    _finish(client)
    client.set(result_key(MISSION, 3), b"nonsense")


@pytest.mark.parametrize("forge", [_changed, _of_another_mission, _of_another_claim, _of_another_key, _no_record])
def test_a_forged_record_is_refused_and_that_is_on_record(
    client: redis.Redis, reader: ResultReader, audit: AuditLog, forge: Callable[[redis.Redis], None]
) -> None:
    forge(client)
    with pytest.raises(SealError) as caught:
        reader.reveal(MISSION, reason="incident 4711")
    assert _outcomes(audit) == ["started", f"failed: {caught.value}"]


def test_while_keys_change_each_record_goes_to_its_identity(client: redis.Redis, audit: AuditLog) -> None:
    new = Identity(X25519, b"n" * 32)
    _finish(client)
    _finish(client, OTHER, new)
    reader = ResultReader(client, [new, IDENTITY], audit)
    assert reader.reveal(MISSION, reason="rotation") == reader.reveal(OTHER, reason="rotation") == SECRETS
    assert [entry.key_id for entry in audit.entries() if entry.outcome == "opened"] == [
        KEY_ID,
        new.key_id.hex(),
    ]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"state": "queued"}, "no result yet: it is queued"),
        ({"state": "running", "token": 1}, "no result yet: it is running"),
        ({"state": "retrying", "token": 1, "reason": "dns_failure"}, "no result yet: it is retrying$"),
        ({"state": "failed", "reason": "dns_failure", "finished_at": 1}, r"no result: it is failed \(dns_failure\)"),
        ({"state": "dead", "reason": "expired", "finished_at": 1}, r"no result: it is dead \(expired\)"),
    ],
)
def test_a_mission_that_did_not_succeed_says_why(
    client: redis.Redis, reader: ResultReader, fields: dict[Any, Any], why: str
) -> None:
    client.hset(entry_key(MISSION), mapping=fields)
    with pytest.raises(ResultUnavailable, match=why):
        reader.reveal(MISSION, reason="incident 4711")


def test_a_reason_that_nobody_of_us_wrote_is_not_repeated(client: redis.Redis, reader: ResultReader) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "failed", "finished_at": 1, "reason": "\x1b[2Jall is well\n"})
    with pytest.raises(ResultUnavailable) as caught:
        reader.reveal(MISSION, reason="incident 4711")
    assert str(caught.value).isprintable()
    assert "all is well" not in str(caught.value)


def test_a_mission_that_found_nothing_has_no_record_and_its_read_is_on_record(
    client: redis.Redis, reader: ResultReader, audit: AuditLog
) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "succeeded", "token": 3, "secrets": 0})
    assert reader.reveal(MISSION, reason="incident 4711") == []
    assert _outcomes(audit) == ["started", "no secrets"]


def test_a_record_that_is_there_is_opened_whatever_the_ledger_counts(
    client: redis.Redis, reader: ResultReader, audit: AuditLog
) -> None:
    """A stolen login may falsify the ledger; an earlier release sealed a record for each success."""
    _finish(client)
    client.hset(entry_key(MISSION), "secrets", 0)
    assert reader.reveal(MISSION, reason="incident 4711") == SECRETS
    assert _outcomes(audit) == ["started", "opened"]


@pytest.mark.parametrize("count", [1, "", "x", "-0.0", b"\xff"])
def test_without_a_record_only_a_count_of_none_says_that_there_was_none(
    client: redis.Redis, reader: ResultReader, count: Any
) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "succeeded", "token": 3, "secrets": count})
    with pytest.raises(ResultUnavailable, match="gone"):
        reader.reveal(MISSION, reason="incident 4711")


def test_an_expired_result_says_so(client: redis.Redis, reader: ResultReader) -> None:
    _finish(client)
    client.delete(result_key(MISSION, 3))
    with pytest.raises(ResultUnavailable, match="expired"):
        reader.reveal(MISSION, reason="incident 4711")


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "\x1b[2J"},
        {"state": b"\xff"},
        {"state": "succeeded"},
        {"state": "succeeded", "token": "x"},
        {"state": "succeeded", "token": b"\xff"},
        {"state": "succeeded", "token": "9" * 5000},
    ],
)
def test_a_ledger_entry_that_nobody_of_us_wrote_is_refused_on_record(
    client: redis.Redis, reader: ResultReader, audit: AuditLog, fields: dict[Any, Any]
) -> None:
    client.hset(entry_key(MISSION), mapping=fields)
    with pytest.raises(ResultUnavailable, match="cannot be read"):
        reader.reveal(MISSION, reason="incident 4711")
    assert _outcomes(audit)[1].startswith("failed: ")


def test_when_redis_goes_away_after_the_start_that_is_what_is_said(client: redis.Redis, audit: AuditLog) -> None:
    with connect(NOWHERE) as nowhere:
        reader = ResultReader(nowhere, [IDENTITY], audit)
        with pytest.raises(LedgerUnavailable):
            reader.reveal(MISSION, reason="incident 4711")
    assert _outcomes(audit)[0] == "started"


def test_a_reader_is_made_from_the_environment(
    client: redis.Redis, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key_file(tmp_path / "reader.key", IDENTITY.line)
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("DECODER_IDENTITY_FILE", str(tmp_path / "reader.key"))
    _finish(client)
    assert ResultReader.from_env().reveal(MISSION, reason="incident 4711") == SECRETS


def test_without_an_identity_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="DECODER_IDENTITY_FILE"):
        ResultReader.from_env()


def test_an_identity_open_to_others_is_refused(tmp_path: Path) -> None:
    write_key_file(tmp_path / "reader.key", IDENTITY.line)
    (tmp_path / "reader.key").chmod(0o644)
    with pytest.raises(KeyFormatError, match="chmod 600"):
        ResultReader.from_env([tmp_path / "reader.key"])
