from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from mission.audit.log import AuditLog
from mission.ids import new_mission_id
from mission.model import Confidence, Secret
from mission.seal.sealing import Identity, seal_secrets
from mission.store.names import Key, entry_key, result_key
from producer import MissionClient
from tests.examples.conftest import NOWHERE, Examples
from tests.integration.conftest import Keys, StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

EXPORT = "export_findings.py"
DAY = datetime(2026, 5, 4, 12, tzinfo=UTC)
ARGUMENTS = ("--day", "2026-05-04", "--reason", "a test")
# What a document may hold to make a spreadsheet compute, split or misread a cell.
NASTY = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "a;=cmd|' /C calc'!A0",
    'a","=1',
    "x\r\n=1",
    "\uff1d1",
    '"',
    "",
    "é;;",
]


def put(client: redis.Redis, identity: Identity, values: Sequence[str], ended: datetime = DAY) -> str:
    """Put a mission into the ledger that succeeded; its id."""
    return put_secrets(client, identity, [Secret(value, value, value, 1, 2, path=value) for value in values], ended)


def put_secrets(client: redis.Redis, identity: Identity, secrets: Sequence[Secret], ended: datetime = DAY) -> str:
    mission_id = new_mission_id()
    finished = round(ended.timestamp() * 1000)
    fields: dict[Any, Any] = {"state": "succeeded", "token": 1, "secrets": len(secrets), "finished_at": finished}
    client.hset(entry_key(mission_id), mapping=fields)
    client.set(result_key(mission_id, 1), seal_secrets(identity.recipient, secrets, mission_id=mission_id, token=1))
    return mission_id


def outcomes(client: redis.Redis) -> list[tuple[str | None, str]]:
    return [(entry.mission_id, entry.outcome) for entry in AuditLog(client).entries()]


def test_what_workers_found_today_is_exported_and_each_read_is_on_record(
    examples: Examples,
    start_worker: StartWorker,
    site: SampleSite,
    mission_client: MissionClient,
    client: redis.Redis,
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    ids, ended = [], []
    for name in ("letter", "plain", "missing", "map"):  # each after the other, so that they end in this order
        ids.append(mission_client.enqueue(f"{site.url}/{name}.txt").id)
        ended.append(mission_client.wait(ids[-1], timeout=60).finished_at or "")
    day = min(ended)[:10]
    done = examples.run(EXPORT, "found.jsonl", "--day", day, "--reason", "ticket 4711")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"opened": 2, "secrets": 5, "gone": 0, "unreadable": 0}
    rows = [json.loads(line) for line in (examples.folder / "found.jsonl").read_text().splitlines()]
    assert [(row["id"], row["category"]) for row in rows if row["category"] != "UNCLASSIFIED"] == [
        (ids[0], "WAREHOUSE"),
        (ids[0], "PASSWORD"),
        (ids[3], "COORDINATES"),
    ]
    assert rows[1]["value"] == "correct-horse-battery-staple"
    assert rows[1]["finished_at"] == ended[0]
    # The one that held no secret has no result.
    assert outcomes(client) == [(ids[n], how) for n in (0, 3) for how in ("started", "opened")]
    assert done.stderr.count("ticket 4711") == 4
    assert "correct-horse" not in done.stderr + done.stdout


def test_the_file_is_its_owners_alone_whatever_was_there(examples: Examples, keys: Keys, client: redis.Redis) -> None:
    put(client, keys.identity, ["x"])
    file = examples.folder / "found.csv"
    file.write_text("of the last time")
    file.chmod(0o644)
    assert examples.run(EXPORT, "found.csv", *ARGUMENTS).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert "last time" not in file.read_text()
    assert list(examples.folder.iterdir()) == [file]


def test_no_cell_of_a_table_is_a_formula_and_nothing_is_lost(
    examples: Examples, keys: Keys, client: redis.Redis
) -> None:
    put(client, keys.identity, NASTY)
    assert examples.run(EXPORT, "found.csv", *ARGUMENTS).returncode == 0
    raw = (examples.folder / "found.csv").read_bytes()
    with (examples.folder / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [[json.loads(row[name]) for row in rows] for name in ("detector", "category", "value", "path")] == [
        NASTY
    ] * 4
    # However a program takes it apart, also one that minds no quotes between lines or splits at other marks.
    assert raw.count(b"\n") == raw.count(b"\r\n") == len(NASTY) + 1
    assert raw.isascii()
    assert not re.search(rb"[\t;]", raw)
    assert all(cell[0] in '"0123456789abcdef' for row in rows for cell in row.values())


@pytest.mark.parametrize(("least", "exported"), [("certain", ["a"]), ("high", ["a", "b"]), ("low", ["a", "b", "c"])])
def test_what_is_less_sure_than_asked_for_is_left_out(
    examples: Examples, keys: Keys, client: redis.Redis, least: str, exported: list[str]
) -> None:
    levels = {"a": Confidence.CERTAIN, "b": Confidence.HIGH, "c": Confidence.LOW}
    put_secrets(client, keys.identity, [Secret("provider", "x", name, 1, 1, level) for name, level in levels.items()])
    done = examples.run(EXPORT, "found.jsonl", *ARGUMENTS, "--min-confidence", least)
    assert json.loads(done.stdout)["secrets"] == len(exported)
    lines = (examples.folder / "found.jsonl").read_text().splitlines()
    assert [(json.loads(line)["value"], json.loads(line)["confidence"]) for line in lines] == [
        (name, levels[name]) for name in exported
    ]


def test_json_lines_hold_the_exact_text(examples: Examples, keys: Keys, client: redis.Redis) -> None:
    put(client, keys.identity, NASTY)
    assert examples.run(EXPORT, "found.jsonl", *ARGUMENTS).returncode == 0
    lines = (examples.folder / "found.jsonl").read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines] == NASTY


def test_of_yesterday_unless_a_day_is_named_and_of_no_other(
    examples: Examples, keys: Keys, client: redis.Redis
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    put(client, keys.identity, ["a"], today + timedelta(hours=1))
    put(client, keys.identity, ["b"], today - timedelta(seconds=1))
    put(client, keys.identity, ["c"], today - timedelta(days=1))
    put(client, keys.identity, ["d"], today - timedelta(days=1, seconds=1))
    done = examples.run(EXPORT, "found.jsonl", "--reason", "a test", "--day", f"{today - timedelta(days=1):%Y-%m-%d}")
    assert json.loads(done.stdout)["opened"] == 2
    named = (examples.folder / "found.jsonl").read_text()
    assert [json.loads(line)["value"] for line in named.splitlines()] == ["c", "b"]
    examples.run(EXPORT, "found.jsonl", "--reason", "a test")
    if datetime.now(UTC) < today + timedelta(days=1):
        assert (examples.folder / "found.jsonl").read_text() == named


def test_a_record_that_does_not_open_is_told_and_the_others_are_exported(
    examples: Examples, keys: Keys, client: redis.Redis
) -> None:
    strange = put(client, Identity.generate(), ["not ours"])
    put(client, keys.identity, ["ours"])
    done = examples.run(EXPORT, "found.jsonl", *ARGUMENTS)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"opened": 1, "secrets": 1, "gone": 0, "unreadable": 1}
    assert f"error: mission {strange}: " in done.stderr
    assert len((examples.folder / "found.jsonl").read_text().splitlines()) == 1


def test_what_cannot_be_recorded_is_not_read_and_the_last_export_stays(
    examples: Examples, keys: Keys, client: redis.Redis
) -> None:
    put(client, keys.identity, ["x"])
    client.set(Key.AUDIT, "not a stream")
    file = examples.folder / "found.csv"
    file.write_text("of the last time")
    done = examples.run(EXPORT, "found.csv", *ARGUMENTS)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the audit could not be written")
    assert file.read_text() == "of the last time"
    assert list(examples.folder.iterdir()) == [file]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_half_written(
    examples: Examples, keys: Keys, client: redis.Redis, number: signal.Signals
) -> None:
    for _ in range(500):
        put(client, keys.identity, ["x"])
    with examples.start(EXPORT, "found.csv", *ARGUMENTS) as process:
        assert process.stderr is not None
        process.stderr.readline()
        assert len(list(examples.folder.iterdir())) == 1
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert said.splitlines()[-1] == "interrupted; nothing was written"
    assert list(examples.folder.iterdir()) == []


def test_without_redis_it_says_so_and_leaves_nothing(examples: Examples) -> None:
    done = examples.run(EXPORT, "found.csv", *ARGUMENTS, DECODER_REDIS_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: store_unavailable: .*; nothing was written\n", done.stderr)
    assert list(examples.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("found.xls", "--reason", "x"), ".jsonl or .csv"),
        (("found.csv",), "--reason"),
        (("found.csv", "--reason", " "), "reason"),
        (("found.csv", "--reason", "x", "--day", "yesterday"), "--day"),
    ],
)
def test_bad_input_is_a_usage_error(examples: Examples, arguments: tuple[str, ...], told: str) -> None:
    done = examples.run(EXPORT, *arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_without_an_identity_the_variable_is_named(examples: Examples) -> None:
    done = examples.run(EXPORT, "found.csv", *ARGUMENTS, DECODER_IDENTITY_FILE="")
    assert done.returncode == 2
    assert "DECODER_IDENTITY_FILE" in done.stderr
