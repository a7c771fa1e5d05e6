from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.settings import Settings
from mission.store.changes import Admission, Commit
from mission.store.ledger import Ledger
from mission.store.names import Key
from producer.commands.outcomes import outcomes
from tests.claims import claim_these
from tests.conftest import wait_for
from tests.processes import started

main = Commands(commands=[outcomes])


@pytest.fixture(autouse=True)
def _environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["outcomes", *arguments])


def told(*arguments: str) -> list[str]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


def ended(ledger: Ledger, state: State = State.SUCCEEDED, reason: Reason | None = None) -> str:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    (claim,) = claim_these(ledger, [answer.id], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, state, reason, None if reason else 1)], 60)
    return answer.id


def test_it_prints_what_is_kept_a_line_each(ledger: Ledger) -> None:
    good, bad = ended(ledger), ended(ledger, State.FAILED, Reason.TLS_FAILURE)
    times = [ledger.status(one).finished_at for one in (good, bad)]
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{times[0]}  {good}  app  succeeded  1 secret",
        f"{times[1]}  {bad}  app  failed  tls_failure",
    ]


def test_json_is_the_whole_outcome(ledger: Ledger, client: redis.Redis) -> None:
    mission_id = ended(ledger)
    status = ledger.status(mission_id)
    entries: Any = client.xrange(Key.OUTCOMES)
    assert json.loads(run("--json").stdout) == {
        "id": mission_id,
        "submitter": "app",
        "state": "succeeded",
        "reason": None,
        "secrets": 1,
        "submitted_at": status.submitted_at,
        "finished_at": status.finished_at,
        "place": entries[0][0].decode(),
        "missed": 0,
    }


def test_since_a_time_only_what_ended_later(ledger: Ledger, client: redis.Redis) -> None:
    now = datetime.now(UTC)
    for minutes in (90, 30):
        at = round((now - timedelta(minutes=minutes)).timestamp() * 1000)
        client.xadd(Key.OUTCOMES, {"id": str(minutes)}, id=f"{at}-0")
    assert told("--since", "1h") == ["30"]
    assert told("--since", (now - timedelta(hours=2)).isoformat()) == ["90", "30"]
    assert told("--since", "1m") == []


def test_a_group_begins_now_and_goes_on_where_it_was(ledger: Ledger) -> None:
    before = ended(ledger)
    assert told("--group", "billing") == []
    after = ended(ledger)
    assert told("--group", "billing") == [after]
    assert told("--group", "billing") == []
    assert told("--group", "other", "--since", "1h") == [before, after]
    assert told() == [before, after]


def test_what_was_dropped_untold_is_a_note(ledger: Ledger, client: redis.Redis) -> None:
    run("--group", "billing")
    for _ in range(5):
        last = ended(ledger)
    client.xtrim(Key.OUTCOMES, maxlen=1, approximate=False)
    result = run("--group", "billing", "--json")
    assert json.loads(result.stdout)["missed"] == 4
    assert result.stderr == f"note: up to 4 outcomes before {last} were dropped before they were read\n"


def test_a_group_that_is_none_is_refused_in_a_line() -> None:
    result = run("--group", "a b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: malformed_message: a group's name has up to 64 letters")


@pytest.mark.server("a process of its own")
def test_it_follows_until_ctrl_c(ledger: Ledger, client: redis.Redis) -> None:
    command = [sys.executable, "-m", "producer", "outcomes", "--follow", "--group", "g", "--json"]
    with started(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: client.exists(Key.GROUP + "g"), what="it to follow")
        assert process.stdout is not None
        for _ in range(3):
            mission_id = ended(ledger)
            assert json.loads(process.stdout.readline())["id"] == mission_id
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "interrupted\n")
    assert process.returncode == 130
