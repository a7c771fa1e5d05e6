"""Audit messages on stderr: readable text at a terminal, JSON for a collector if stderr is redirected."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from mission.audit.log import AuditLog
from mission.ids import new_mission_id
from mission.model import Reason, Secret, State
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.suites import X25519
from mission.store.changes import Admission, Commit, Release
from mission.store.ledger import Ledger
from tests.claims import claim_these
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

WHY = ("--reason", "incident 4711")
Typed = Callable[[list[str]], list[str]]

# Commands on two missions, and the audit message that each shows a person.
COMMANDS: dict[str, Typed] = {
    "reveal": lambda ids: ["producer", "reveal", ids[0], *WHY],
    "forget": lambda ids: ["producer", "forget", ids[0], *WHY],
    "replay": lambda ids: ["worker", "dead-letters", "replay", *ids[1:], "--why", "incident 4711"],
    "discard": lambda ids: ["worker", "dead-letters", "discard", *ids[1:], "--why", "incident 4711"],
    "rewrap": lambda _: ["worker", "keys", "rewrap", "--from", "reader.key", "--to", "next.pub"],
    "repair": lambda _: ["worker", "doctor", "--repair", *WHY],
    "mend": lambda _: ["worker", "audit", "mend", *WHY],
}


@pytest.fixture
def ids(ledger: Ledger, client: redis.Redis, tmp_path: Path) -> list[str]:
    """A mission with a result and thirty dead ones, with keys in the folder and an invalid entry in the audit."""
    identity = Identity(X25519, b"i" * 32)
    write_key_file(tmp_path / "reader.key", identity.line)
    write_key_file(tmp_path / "next.pub", Identity(X25519, b"n" * 32).recipient.line)
    ids = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"u", 1000) for _ in range(31)], "app")]
    first, *rest = sorted(claim_these(ledger, ids, 31, 60).claims, key=lambda claim: ids.index(claim.id))
    sealed = seal_secrets(
        identity.recipient, [Secret("marker", "K", "sesame", 1, 1)], mission_id=first.id, token=first.token
    )
    ledger.commit([Commit(first.id, first.token, State.SUCCEEDED, None, 1, sealed)], 60)
    ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0) for claim in rest], 1)
    client.rpush("{decoder}:audit:people", "what is no entry")
    return ids


def run(typed: list[str], stderr: int, settings: WorkerSettings, folder: Path) -> None:
    """Run the command to its end, with its stderr on a descriptor."""
    env = os.environ | {
        "DECODER_REDIS_URL": settings.redis_url.get_secret_value(),
        "DECODER_IDENTITY_FILE": "reader.key",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", *typed]
    subprocess.run(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr, timeout=60, check=True)


@pytest.mark.parametrize("action", COMMANDS)
def test_a_person_is_told_in_one_line_and_a_collector_gets_every_entry(
    action: str, ids: list[str], settings: WorkerSettings, client: redis.Redis, tmp_path: Path
) -> None:
    ours, terminal = pty.openpty()
    run(COMMANDS[action](ids), terminal, settings, tmp_path)
    shown = os.read(ours, 65536).decode()
    os.close(terminal)
    os.close(ours)
    assert shown.count("recorded in the audit") == 1
    assert f"note: recorded in the audit: {action}\r\n" in shown
    assert "{" not in shown
    told = len(AuditLog(client).entries())
    assert told >= 1
    with (tmp_path / "stderr").open("wb") as file:
        run(COMMANDS["rewrap"](ids), file.fileno(), settings, tmp_path)
    lines = [json.loads(line)["decoder.audit"] for line in (tmp_path / "stderr").read_text().splitlines()]
    assert [line["hash"] for line in lines] == [entry.hash for entry in AuditLog(client).entries()][told:]
    assert len(lines) == 2
