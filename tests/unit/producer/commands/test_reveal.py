from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from mission.audit.log import AuditLog
from mission.cli.console import Commands
from mission.model import Confidence, Secret
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.names import entry_key, result_key
from producer.commands.reveal import reveal
from tests.conftest import wait_for

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"

main = Commands(commands=[reveal])


@pytest.fixture
def identity(client: redis.Redis, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """The reader's identity, in the file that the environment names."""
    identity = Identity(X25519, b"i" * 32)
    write_key_file(tmp_path / "reader.key", identity.line)
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("DECODER_IDENTITY_FILE", str(tmp_path / "reader.key"))
    return identity


def _finish(client: redis.Redis, identity: Identity, secrets: list[Secret]) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "succeeded", "token": 1})
    client.set(result_key(MISSION, 1), seal_secrets(identity.recipient, secrets, mission_id=MISSION, token=1))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["reveal", *arguments])


def test_json_holds_the_id_and_the_secrets_in_clear(client: redis.Redis, identity: Identity) -> None:
    _finish(client, identity, [Secret("marker", "API_KEY", "pässword", 1, 2)])
    result = _run(MISSION, "--reason", "incident 4711", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "id": MISSION,
        "complete": True,
        "cut": [],
        "secrets": [Secret("marker", "API_KEY", "pässword", 1, 2).as_dict()],
    }


def test_the_table_shows_values_and_steers_no_terminal(client: redis.Redis, identity: Identity) -> None:
    _finish(client, identity, [Secret("marker", "API_KEY", "canary\x1b[2J", 1, 2)])
    result = _run(MISSION, "--reason", "incident 4711")
    assert "canary\\x1b[2J" in result.stdout


def test_the_table_has_the_columns_that_say_something(client: redis.Redis, identity: Identity) -> None:
    _finish(client, identity, [Secret("marker", "API_KEY", "sesame", 1, 2)])
    assert _run(MISSION, "--reason", "incident 4711").stdout.splitlines() == [
        "PLACE  DETECTOR  CATEGORY  CONFIDENCE  VALUE",
        "1:2    marker    API_KEY   certain     sesame",
    ]


def test_the_table_tells_member_encoding_and_number_where_one_has_them(client: redis.Redis, identity: Identity) -> None:
    rule = Secret("provider", "github-pat", "token", 3, 4, Confidence.HIGH, "app/.env", "base64", 7)
    _finish(client, identity, [Secret("marker", "K", "v", 1, 2), rule])
    assert _run(MISSION, "--reason", "incident 4711").stdout.splitlines() == [
        "PLACE         DETECTOR  CATEGORY    CONFIDENCE  ENCODING  TIMES  VALUE",
        "1:2           marker    K           certain                      v",
        "app/.env:3:4  provider  github-pat  high        base64    7      token",
    ]


@pytest.mark.usefixtures("identity")
def test_of_a_document_without_secrets_it_says_so(client: redis.Redis) -> None:
    client.hset(entry_key(MISSION), mapping={"state": "succeeded", "token": 1, "secrets": 0})
    assert "the document held no secrets" in _run(MISSION, "--reason", "incident 4711").output
    result = _run(MISSION, "--reason", "incident 4711", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"id": MISSION, "complete": True, "cut": [], "secrets": []},
    )


def test_the_audits_lines_go_to_stderr_and_hold_no_secret(client: redis.Redis, identity: Identity) -> None:
    _finish(client, identity, [Secret("marker", "API_KEY", "canary-4711", 1, 2)])
    result = _run(MISSION, "--reason", "incident")
    records = [json.loads(line)["decoder.audit"] for line in result.stderr.splitlines()]
    assert [(record["why"], record["outcome"]) for record in records] == [
        ("incident", "started"),
        ("incident", "opened"),
    ]
    assert "canary" not in result.stderr
    assert "API_KEY" not in result.stderr


def test_a_readers_own_retention_shortens_nobodys_record(
    client: redis.Redis, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    _finish(client, identity, [])
    _run(MISSION, "--reason", "incident 4711")
    monkeypatch.setenv("DECODER_AUDIT_TTL", "1ms")
    written = datetime.fromisoformat(AuditLog(client).entries()[-1].at)
    wait_for(lambda: datetime.now(UTC) - written > timedelta(milliseconds=2), what="the entries to be old")
    _run(MISSION, "--reason", "incident 4712")
    assert [entry.why for entry in AuditLog(client).entries()] == ["incident 4711"] * 2 + ["incident 4712"] * 2


def test_a_document_without_secrets_says_so(client: redis.Redis, identity: Identity) -> None:
    _finish(client, identity, [])
    result = _run(MISSION, "--reason", "incident 4711")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "held no secrets" in result.stderr


def test_an_identity_on_the_command_line_wins(client: redis.Redis, identity: Identity, tmp_path: Path) -> None:
    other = Identity(X25519, b"o" * 32)
    write_key_file(tmp_path / "other.key", other.line)
    _finish(client, other, [])
    assert _run(MISSION, "--reason", "incident 4711").exit_code == 1
    assert _run(MISSION, "--reason", "incident 4711", "--identity", str(tmp_path / "other.key")).exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["--reason", ""], ["--reason", "x" * 501]])
def test_without_a_proper_reason_it_is_a_usage_error(identity: Identity, arguments: list[str]) -> None:
    assert _run(MISSION, *arguments).exit_code == 2


def test_an_unknown_mission_is_exit_code_1(identity: Identity) -> None:
    result = _run(MISSION, "--reason", "incident 4711")
    assert result.exit_code == 1
    assert f"error: no mission {MISSION}" in result.stderr
