"""Messages, ledger entries and records as earlier releases wrote them, each kept since its schema was new.

A release reads its own schema and the previous one: after an upgrade it finds the older release's data. After a rollback it finds
the newer release's data, and loses none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from mission.model import Outcome, Reason, State
from mission.seal import sealing
from mission.seal.sealing import Identity, open_secrets
from mission.seal.suites import HYBRID
from mission.seal.url_keys import UrlKeyring, key_line
from mission.store import messages, scripts
from mission.store.changes import Commit
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, QUEUE, Key, entry_key
from worker.queue.entry import MalformedMessage, NewerMessage, rebuild
from worker.queue.intake import GuardedConnection
from worker.settings import WorkerSettings

SAMPLES = Path(__file__).parent.parent / "samples"
# The keys that sealed and encrypted the samples.
KEY = bytes(range(32))


def sample(kind: str, schema: int) -> Any:
    return json.loads((SAMPLES / f"{kind}-{schema}.json").read_text())


def kept(kind: str, oldest: int, newest: int) -> list[int]:
    """The schema numbers that a release must read; a sample of the newest must exist."""
    return [n for n in range(oldest, newest + 1) if n == newest or (SAMPLES / f"{kind}-{n}.json").exists()]


MESSAGES = kept("message", *scripts.READS)
ENTRIES = kept("entry", *scripts.READS)
RECORDS = kept("record", sealing.RECORD_VERSION - 1, sealing.RECORD_VERSION)


@pytest.mark.parametrize("schema", MESSAGES)
def test_a_message_of_this_schema_or_the_one_before_is_read(schema: int) -> None:
    message = sample("message", schema)
    assert message["headers"][messages.SCHEMA_HEADER] == schema
    rebuilt = json.loads(rebuild(json.dumps(message).encode()))
    assert rebuilt["headers"]["id"] == message["headers"]["id"]
    assert rebuilt["headers"][messages.SCHEMA_HEADER] == scripts.WRITES


@pytest.mark.parametrize("schema", MESSAGES)
def test_the_next_release_reads_todays_messages_and_the_one_after_it_does_not(
    schema: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = json.dumps(sample("message", schema)).encode()
    monkeypatch.setattr(scripts, "READS", (schema, schema + 1))
    assert rebuild(entry)
    monkeypatch.setattr(scripts, "READS", (schema + 1, schema + 2))
    with pytest.raises(MalformedMessage, match="unknown schema"):
        rebuild(entry)


def test_a_message_that_names_no_schema_is_read_as_one_of_today() -> None:
    message = sample("message", scripts.WRITES)
    del message["headers"][messages.SCHEMA_HEADER]
    assert rebuild(json.dumps(message).encode())


@pytest.fixture
def channel(settings: WorkerSettings) -> Iterator[Any]:
    """A worker process' kombu channel."""
    with GuardedConnection(settings.redis_url.get_secret_value()) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        yield connection.channel()


@pytest.mark.server("kombu's own connections")
def test_a_message_of_a_newer_release_is_passed_over_after_a_rollback_and_is_not_called_malformed(
    channel: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = json.dumps(sample("message", scripts.WRITES)).encode()
    monkeypatch.setattr(scripts, "READS", (0, scripts.WRITES - 1))
    with pytest.raises(NewerMessage):
        rebuild(entry)
    client.lpush(QUEUE, entry)
    with channel.conn_or_acquire() as guarded:
        assert guarded.brpop([QUEUE], timeout=1) is None
    assert client.llen(QUEUE) == client.exists(Key.QUARANTINE) == 0
    assert "message of a newer release skipped" in caplog.text


def restored(client: redis.Redis, schema: int) -> Any:
    """Put a stored entry into the ledger, as a mission that waits for its message."""
    found = sample("entry", schema)
    fields = {name: bytes.fromhex(value) for name, value in found["fields"].items()}
    assert fields["v"] == str(schema).encode()
    client.hset(entry_key(found["id"]), mapping=fields)
    client.zadd(PREFIX + "queued", {found["id"]: 1})
    client.zadd(PREFIX + "open", {found["id"]: int(fields["submitted_at"])})
    client.zadd(PREFIX + "expiry", {found["id"]: int(fields["expires_at"])})
    return found


def assert_worked(ledger: Ledger, found: Any) -> None:
    (claim,) = ledger.claim(1, 60).claims
    assert UrlKeyring.parse(key_line(KEY).text).decrypt(claim.url_record, claim.id) == found["url"]
    assert ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, b"r")], 60) == [State.SUCCEEDED]
    assert ledger.status(claim.id).state is State.SUCCEEDED


@pytest.mark.parametrize("schema", ENTRIES)
def test_an_entry_of_this_schema_or_the_one_before_is_worked(schema: int, ledger: Ledger, client: redis.Redis) -> None:
    assert_worked(ledger, restored(client, schema))


def test_the_next_release_works_todays_entries(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = scripts.WRITES
    monkeypatch.setattr(scripts, "READS", (today, today + 1))
    monkeypatch.setattr(scripts, "WRITES", today + 1)
    assert_worked(ledger, restored(client, today))


def test_after_a_rollback_todays_entries_wait_until_a_release_comes_that_reads_them(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = restored(client, scripts.WRITES)
    with monkeypatch.context() as older:
        older.setattr(scripts, "READS", (0, scripts.WRITES - 1))
        claimed = ledger.claim(1, 60)
        assert (claimed.claims, claimed.unreadable) == ([], [found["id"]])
        assert ledger.claim(1, 60).unreadable == [], "it is out of the others' way for a while"
    client.zadd(PREFIX + "due", {found["id"]: 1})
    client.zadd(PREFIX + "due_hosts", {"": 1})
    assert ledger.take_due(10)[0] == [found["id"]]
    assert_worked(ledger, found)


@pytest.mark.parametrize("version", RECORDS)
def test_a_record_of_this_version_or_the_one_before_is_opened(version: int) -> None:
    found = sample("record", version)
    record = bytes.fromhex(found["record"])
    assert record[4] == version
    secrets = open_secrets(Identity(HYBRID, KEY), record, mission_id=found["id"], token=found["token"])
    assert [secret.stored() for secret in secrets] == found["secrets"]


def test_what_rules_found_is_opened_and_a_release_without_rules_passes_over_what_it_does_not_know() -> None:
    found = json.loads((SAMPLES / "record-1-rules.json").read_text())
    record = bytes.fromhex(found["record"])
    secrets = open_secrets(Identity(HYBRID, KEY), record, mission_id=found["id"], token=found["token"])
    assert [secret.as_dict() for secret in secrets] == found["secrets"]
    assert json.loads(sealing._plaintext(secrets))["v"] == json.loads(sealing._plaintext([]))["v"] == 1


def test_an_outcome_as_releases_write_it_is_read(ledger: Ledger, client: redis.Redis) -> None:
    """An outcome of a newer release may have additional fields or an unknown state."""
    client.xadd(Key.OUTCOMES, sample("outcome", 1), id="1800000000000-0")
    client.xadd(Key.OUTCOMES, sample("outcome", 1) | {"state": "archived", "kept": "x"}, id="1800000000000-1")
    first, newer = ledger.outcomes.follow(None, datetime.fromtimestamp(0, UTC), endless=False, hold_seconds=60)
    assert first == Outcome(
        id="0f8fad5b-d9cb-469f-a165-70867728950e",
        submitter="nightly",
        state=State.DEAD,
        reason=Reason.HTTP_SERVER_ERROR,
        secrets=None,
        submitted_at="2027-01-15T07:59:00.000Z",
        finished_at="2027-01-15T08:00:00.000Z",
        place="1800000000000-0",
    )
    assert newer == replace(first, state="archived", place="1800000000000-1")
