from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from mission.ids import new_mission_id
from mission.model import State
from mission.settings import Settings
from mission.store.changes import Admission, Commit
from mission.store.ledger import Ledger
from mission.store.names import entry_key
from producer.commands.forget import forget
from tests.claims import claim_these

main = Commands(commands=[forget])


@pytest.fixture(autouse=True)
def _environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())


@pytest.fixture
def mission_id(ledger: Ledger) -> str:
    """A mission that succeeded."""
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    (claim,) = claim_these(ledger, [answer.id], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 1, b"sealed")], 60)
    return answer.id


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["forget", *arguments])


def test_a_mission_is_deleted_and_that_is_said(mission_id: str, client: redis.Redis) -> None:
    result = _run(mission_id, "--reason", "request 815")
    assert (result.exit_code, result.stdout) == (0, f"{mission_id}  deleted, with 1 result\n")
    assert client.exists(entry_key(mission_id)) == 0


def test_json_says_what_went(mission_id: str) -> None:
    result = _run(mission_id, "--reason", "request 815", "--json")
    assert json.loads(result.stdout) == {"id": mission_id, "forgotten": True, "results": 1}


def test_the_audits_lines_go_to_stderr(mission_id: str) -> None:
    lines = _run(mission_id, "--reason", "request 815").stderr.splitlines()
    assert [json.loads(line)["decoder.audit"]["why"] for line in lines] == ["request 815"] * 2


def test_a_mission_that_is_not_there_is_exit_code_1(mission_id: str) -> None:
    _run(mission_id, "--reason", "request 815")
    result = _run(mission_id, "--reason", "request 815", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: no mission {mission_id}" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--reason", " "], ["--reason", "x" * 501]])
def test_without_a_proper_reason_it_is_a_usage_error(
    mission_id: str, client: redis.Redis, arguments: list[str]
) -> None:
    assert _run(mission_id, *arguments).exit_code == 2
    assert client.exists(entry_key(mission_id)) == 1
