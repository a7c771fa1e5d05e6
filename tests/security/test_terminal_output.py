"""Text from strangers cannot steer a terminal: every command, with hostile text in every input."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest
import redis
from click.testing import CliRunner

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.cli.console import say
from mission.ids import new_mission_id
from mission.model import Reason, Secret
from mission.seal.key_files import KeyLine, write_key_file
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.suites import X25519
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.changes import Admission, Release
from mission.store.ledger import Ledger
from mission.store.names import Key, entry_key, result_key
from producer.cli import main as mission
from tests.claims import claim_these
from worker.cli import main as decoder
from worker.observe import logs

# Characters that a terminal obeys, or displays in another order: C0 without NUL, DEL, C1, bidirectional controls, two line separators.
CODES = [
    *range(1, 0x20),
    0x7F,
    *range(0x80, 0xA0),
    0x61C,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
ALL = "".join(map(chr, CODES))
HOSTILE = f"evil{ALL}live"
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
WHY = ("--reason", "a test")

Calls = list[tuple[click.Group, list[str]]]


def steering(output: bytes) -> set[str]:
    """The names of an output's control characters, without the command's own line ends."""
    text = output.decode()  # and it is UTF-8
    return {f"U+{ord(char):04X}" for char in text if char != "\n" and char in ALL}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Every command of a program, as it is called."""
    for name, command in group.commands.items():
        if isinstance(real := command.load() if hasattr(command, "load") else command, click.Group):
            yield from commands(real, (*path, name))
        else:
            yield [*path, name]


EVERY = [(program, path) for program in (mission, decoder) for path in commands(program)]


@pytest.fixture
def place(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with hostile names, and an environment that points to it and to the ledger."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    identity = Identity(X25519, b"i" * 32)
    write_key_file(folder / f"{HOSTILE}.key", identity.line)
    write_key_file(folder / "url.key", KeyLine.parse(generate_url_key()))
    (folder / "letter").write_text(f"{{* {HOSTILE}: {HOSTILE} *}}{{* KEY: {HOSTILE} *}}")
    (folder / "passwords").write_text(f"{HOSTILE}:x\n")
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("DECODER_IDENTITY_FILE", str(folder / f"{HOSTILE}.key"))
    monkeypatch.setenv("DECODER_URL_KEY", str(folder / "url.key"))
    return folder


@pytest.fixture
def stored(client: redis.Redis, ledger: Ledger, place: Path) -> str:
    """The id of a mission whose stored fields are all hostile; the audit is hostile too."""
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "team-a")
    (claim,) = claim_these(ledger, [answer.id], 1, 60).claims
    ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0)], 1)
    fields = dict.fromkeys(("submitter", "reason", "state", "history"), HOSTILE)
    client.xadd(Key.OUTCOMES, {"id": answer.id} | fields)  # type: ignore[arg-type]  # redis-py's mapping is invariant
    client.hset(entry_key(answer.id), mapping=fields)  # type: ignore[arg-type]  # redis-py's mapping is invariant
    AuditLog(client, Actor(HOSTILE, HOSTILE, HOSTILE), lambda line: None).append(
        HOSTILE, mission_id=answer.id, key_id=HOSTILE, why=HOSTILE, outcome=HOSTILE
    )
    sealed = ledger.admit([Admission(ID, b"u", 1000)], "team-a")[0]
    client.hset(entry_key(sealed.id), mapping={"state": "succeeded", "token": 1})
    secrets = [Secret("marker", HOSTILE, HOSTILE, 1, 2)]
    recipient = Identity(X25519, b"i" * 32).recipient
    client.set(result_key(ID, 1), seal_secrets(recipient, secrets, mission_id=ID, token=1))
    return answer.id


def assert_harmless(program: click.Group, arguments: list[str], *, stdin: str | None = None) -> str:
    result = CliRunner().invoke(program, arguments, input=stdin, prog_name="program")
    assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    assert steering(result.stdout_bytes) == set(), arguments
    assert steering(result.stderr_bytes) == set(), arguments
    return result.stdout


@pytest.mark.parametrize(
    ("program", "path"), EVERY, ids=lambda value: "-".join(value) if isinstance(value, list) else value.name
)
def test_no_command_repeats_a_hostile_argument_or_option(place: Path, program: click.Group, path: list[str]) -> None:
    assert_harmless(program, [*path, f"--{HOSTILE}"])
    assert_harmless(program, [*path[:-1], HOSTILE])
    if path not in (["up"], ["run"], ["worker"]):  # they take no arguments, or run for seconds
        for extra in ([], ["--json"], [*WHY], ["--why", "x"], [*WHY, "--json"]):
            assert_harmless(program, [*path, HOSTILE, *extra])
            assert_harmless(program, [*path, f"{place}/none", *extra], stdin=HOSTILE)


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["text", "json"])
def test_nothing_that_is_stored_steers(stored: str, place: Path, json_too: list[str]) -> None:
    calls: Calls = [
        (mission, ["status", stored, ID, HOSTILE]),
        (mission, ["stats"]),
        (mission, ["outcomes"]),
        (mission, ["reveal", ID, *WHY]),
        (decoder, ["dead-letters", "list"]),
        (decoder, ["dead-letters", "show", stored]),
        (decoder, ["dead-letters", "replay", stored, HOSTILE, "--why", HOSTILE]),
        (decoder, ["dead-letters", "discard", "--all", "--why", HOSTILE]),
        (decoder, ["audit", "show"]),
        (decoder, ["audit", "verify"]),
        (decoder, ["audit", "verify", "--log", str(place / "letter")]),
        (decoder, ["keys", "rewrap", "--from", str(place / f"{HOSTILE}.key"), "--to", str(place / "none")]),
        (mission, ["forget", ID, "--reason", HOSTILE]),
    ]
    for program, arguments in calls:
        assert_harmless(program, [*arguments, *json_too])


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["text", "json"])
def test_no_file_and_no_document_steers(place: Path, json_too: list[str]) -> None:
    letter, key, new = str(place / "letter"), str(place / f"{HOSTILE}.key"), str(place / "new")
    calls: Calls = [
        (decoder, ["scan", "--show", letter, key, str(place), new]),
        (decoder, ["scan", "--sarif", f"{new}/{HOSTILE}", letter]),
        (decoder, ["scan", "--baseline", key, letter]),
        (decoder, ["rules", "check", letter, key, new]),
        (decoder, ["rules", "test", letter, key, new]),
        (decoder, ["keys", "show", key]),
        (decoder, ["keys", "show", letter]),
        (decoder, ["keys", "generate", "--identity", key]),
        (decoder, ["keys", "generate", "--identity", new, "--recipient", f"{new}.pub", "--url-key", f"{new}.url"]),
        (decoder, ["check-url", "--no-resolve", f"https://docs.example.com/{HOSTILE}", HOSTILE]),
        (mission, ["enqueue", "--submitter", HOSTILE, HOSTILE]),
        (mission, ["enqueue", "--from-file", letter]),
        (mission, ["enqueue", "--expires", HOSTILE, "https://docs.example.com/"]),
    ]
    for program, arguments in calls:
        assert_harmless(program, [*arguments, *json_too])
    assert_harmless(decoder, ["acl", str(place / "passwords")])
    assert_harmless(decoder, ["scan", "--json", "-"], stdin=(place / "letter").read_text())


@pytest.mark.parametrize(
    "name", ["REDIS_URL", "URL_KEY", "ALLOWED_HOSTS", "RECIPIENTS", "RECIPIENT", "MARKERS", "QUOTA", "CA_FILE"]
)
def test_no_setting_steers(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = {"MARKERS": f"{HOSTILE} x", "RECIPIENTS": str(place)}.get(name, HOSTILE)
    monkeypatch.setenv(f"DECODER_{name}", value)
    monkeypatch.setenv(f"DECODER_DEADLIN{ALL}E", "1s")
    for arguments in (["settings"], ["settings", "--json"], ["doctor"], ["doctor", "--json"], ["worker"]):
        if arguments != ["worker"] or name in ("REDIS_URL", "QUOTA"):  # with these it does not start
            assert_harmless(decoder, arguments)


def test_json_says_what_it_escapes(place: Path) -> None:
    shown = assert_harmless(decoder, ["scan", "--show", "--json", str(place / "letter")])
    assert HOSTILE in [secret["value"] for secret in json.loads(shown)["secrets"]]


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_no_log_line_steers(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    written = StringIO()
    logs.configure("info", fmt, written)
    logging.getLogger(f"decoder.{HOSTILE}").warning("said %s", HOSTILE, extra={HOSTILE: HOSTILE})
    root.handlers[0].flush()
    root.handlers[0].close()
    assert written.getvalue().count("\n") == 1
    assert steering(written.getvalue().encode()) == set()


def test_whatever_unicode_calls_a_control_or_a_format_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    strange = [
        char for char in map(chr, range(0x110000)) if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
    assert set(ALL) <= set(strange)
    say(*strange)
    say("".join(strange), err=True)
    out, err = capsys.readouterr()
    assert out.count("\n") == len(strange)
    assert err.count("\n") == 1
    assert not set(strange) & (set(out) | set(err)) - {"\n"}


def test_a_line_of_a_worker_that_does_not_start_steers_nothing(place: Path) -> None:
    env = os.environ | {"DECODER_REDIS_URL": HOSTILE, "DECODER_QUOTA": HOSTILE}
    for command in (["celery", "-A", "worker.app", "report"], ["worker.observe.health", HOSTILE, "--live"]):
        done = subprocess.run([sys.executable, "-m", *command], env=env, capture_output=True, check=False, timeout=60)
        assert done.stderr
        assert steering(done.stdout + done.stderr) == set()
