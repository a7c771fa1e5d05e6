from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from click.testing import CliRunner, Result

from mission.audit.log import AuditLog
from mission.cli.console import Commands
from mission.cli.keys import keys
from mission.errors import AuditError, LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Secret
from mission.operate.results import ResultReader
from mission.operate.rewrap import BATCH, Rewrapped, Rewrapper
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity, RecordHeader, seal_secrets
from mission.seal.suites import X25519
from mission.settings import Settings
from mission.store.names import Key, entry_key, result_key
from tests.conftest import wait_for

OLD = Identity(X25519, b"o" * 32)
OLDER = Identity(X25519, b"p" * 32)
NEW = Identity(X25519, b"n" * 32)
OTHERS = Identity(X25519, b"x" * 32)
WHY = "key rotation"
MANY = 300

main = Commands(commands=[keys])


@pytest.fixture
def rewrapper(client: redis.Redis, settings: Settings, audit: AuditLog) -> Rewrapper:
    """A rewrapper from the old key to the new one."""
    return Rewrapper(client, settings, [OLD], NEW.recipient, audit)


def secrets_of(mission_id: str) -> list[Secret]:
    return [Secret("marker", "KEY", f"canary of {mission_id}", 1, 1)]


def finish(client: redis.Redis, count: int, identity: Identity = OLD) -> list[str]:
    """Succeeded missions, each sealed to this identity's key, with token 3 and an hour to live."""
    ids = [new_mission_id() for _ in range(count)]
    with client.pipeline(transaction=False) as pipe:
        for mission_id in ids:
            record = seal_secrets(identity.recipient, secrets_of(mission_id), mission_id=mission_id, token=3)
            pipe.hset(entry_key(mission_id), mapping={"state": "succeeded", "token": 3})
            pipe.set(result_key(mission_id, 3), record, ex=3600)
        pipe.execute()
    return ids


def readable(client: redis.Redis, audit: AuditLog, ids: Sequence[str], identity: Identity) -> bool:
    """Whether this identity opens them all without others, as the results of their own missions."""
    reader = ResultReader(client, [identity], audit)
    return all(reader.reveal(mission_id, reason="a test") == secrets_of(mission_id) for mission_id in ids)


def record_of(client: redis.Redis, mission_id: str) -> bytes:
    return cast("bytes", client.get(result_key(mission_id, 3)))


def sealed_to(client: redis.Redis, mission_id: str) -> bytes:
    return RecordHeader.parse(record_of(client, mission_id)).key_id


def test_the_new_identity_opens_everything_after(client: redis.Redis, rewrapper: Rewrapper, audit: AuditLog) -> None:
    ids = finish(client, 2 * BATCH + 7)
    assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(rewrapped=len(ids))
    assert {sealed_to(client, mission_id) for mission_id in ids} == {NEW.key_id}
    assert readable(client, audit, ids[:20], NEW)


def test_a_record_keeps_its_time_to_live(client: redis.Redis, rewrapper: Rewrapper) -> None:
    (mission_id,) = finish(client, 1)
    before = client.pttl(result_key(mission_id, 3))
    rewrapper.rewrap(rewrapper.keys(), why=WHY)
    assert 0 < client.pttl(result_key(mission_id, 3)) <= before


def test_records_of_each_old_key_are_sealed_anew_and_all_others_are_left_as_they_are(
    client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    ids = finish(client, 2) + finish(client, 2, OLDER)
    others = {
        mission_id: record_of(client, mission_id) for mission_id in finish(client, 1, NEW) + finish(client, 1, OTHERS)
    }
    rewrapper = Rewrapper(client, settings, [OLD, OLDER], NEW.recipient, audit)
    assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(rewrapped=4, already=1, others=1)
    assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(already=5, others=1)
    assert readable(client, audit, ids, NEW)
    assert {mission_id: record_of(client, mission_id) for mission_id in others} == others


def _changed(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def _nonsense(_record: bytes) -> bytes:
    return b"nonsense"


def _of_another_mission(_record: bytes) -> bytes:
    return OLD.recipient.seal(b"x", mission_id=new_mission_id(), token=3)


@pytest.mark.parametrize("forge", [_changed, _nonsense, _of_another_mission])
def test_a_forged_record_is_counted_and_stays_as_evidence(
    client: redis.Redis, rewrapper: Rewrapper, forge: Callable[[bytes], bytes]
) -> None:
    forged, _ = finish(client, 2)
    client.set(result_key(forged, 3), forge(record_of(client, forged)))
    before = record_of(client, forged)
    assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(rewrapped=1, unreadable=1)
    assert record_of(client, forged) == before


def test_what_goes_meanwhile_is_counted_and_not_brought_back(client: redis.Redis, rewrapper: Rewrapper) -> None:
    ids = finish(client, 3)
    found = rewrapper.keys()
    client.delete(result_key(ids[0], 3))
    assert rewrapper.rewrap(found, why=WHY) == Rewrapped(rewrapped=2, gone=1)
    assert not client.exists(result_key(ids[0], 3))


class Meddling(redis.Redis):
    """A client during whose work something happens once, between reading and writing."""

    meddle: Callable[[], object] | None = None

    def mget(self, *args: Any, **options: Any) -> Any:
        found = super().mget(*args, **options)
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        return found


def test_a_record_that_is_written_anew_or_forgotten_meanwhile_is_not_overwritten(
    client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    fresh = [Secret("marker", "KEY", "found in the second commit", 2, 2)]
    with Meddling.from_url(settings.redis_url.get_secret_value()) as meddling:
        rewrapper = Rewrapper(meddling, settings, [OLD], NEW.recipient, audit)
        (mission_id,) = finish(client, 1)
        again = seal_secrets(OLD.recipient, fresh, mission_id=mission_id, token=3)
        meddling.meddle = lambda: client.set(result_key(mission_id, 3), again, ex=3600)
        assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(rewrapped=1)
        assert ResultReader(client, [NEW], audit).reveal(mission_id, reason="a test") == fresh
        (mission_id,) = finish(client, 1)
        meddling.meddle = lambda: client.delete(result_key(mission_id, 3))
        assert rewrapper.rewrap(rewrapper.keys(), why=WHY) == Rewrapped(already=1, gone=1)
        assert not client.exists(result_key(mission_id, 3))


class Interrupted(Exception):
    """An interruption of the process."""


def test_an_interruption_is_on_record_with_how_far_it_came(
    client: redis.Redis, rewrapper: Rewrapper, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.operate.rewrap.BATCH", 2)
    finish(client, 5)

    def broken() -> Iterator[str]:
        yield from islice(rewrapper.keys(), 4)
        raise Interrupted

    with pytest.raises(Interrupted):
        rewrapper.rewrap(broken(), why=WHY)
    assert audit.entries()[-1].outcome == (
        "failed: Interrupted (rewrapped 4, already 0, unreadable 0, others 0, gone 0)"
    )


@pytest.mark.server("another process")
@pytest.mark.full
def test_killed_twice_it_ends_with_everything_readable_and_nothing_lost(
    client: redis.Redis, settings: Settings, audit: AuditLog, tmp_path: Path
) -> None:
    old, new = Identity.generate(), Identity.generate()
    write_key_file(tmp_path / "old.key", old.line)
    write_key_file(tmp_path / "new.pub", new.recipient.line)
    ids = finish(client, 10_000, old)
    # At low priority, so that it does not finish before this process sees its progress.
    command = ["nice", "-n", "19", sys.executable, "-m", "worker", "keys", "rewrap", "--json"]
    command += ["--from", str(tmp_path / "old.key"), "--to", str(tmp_path / "new.pub")]
    environment = os.environ | {"DECODER_REDIS_URL": settings.redis_url.get_secret_value()}

    def exchanged() -> int:
        return sum(sealed_to(client, mission_id) == new.key_id for mission_id in ids[::20]) * 20

    for part in (0.2, 0.5):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            wait_for(lambda part=part: exchanged() > part * len(ids), seconds=50, what="some records")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "it finished before it was killed"
    last = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    done = json.loads(last.stdout)
    assert done["rewrapped"] > 0
    assert done["rewrapped"] + done["already"] == len(ids)
    for mission_id in ids:
        opened = new.open(record_of(client, mission_id), mission_id=mission_id, token=3)
        assert f"canary of {mission_id}".encode() in opened


def test_start_and_end_are_on_record_with_both_keys(client: redis.Redis, rewrapper: Rewrapper, audit: AuditLog) -> None:
    finish(client, 2)
    rewrapper.rewrap(rewrapper.keys(), why=f" {WHY} ")
    keys_ = f"{OLD.key_id.hex()}>{NEW.key_id.hex()}"
    assert [(e.action, e.mission_id, e.key_id, e.why, e.outcome) for e in audit.entries()] == [
        ("rewrap", None, keys_, WHY, "started"),
        ("rewrap", None, keys_, WHY, "rewrapped 2, already 0, unreadable 0, others 0, gone 0"),
    ]


def test_nothing_is_opened_when_the_start_cannot_be_recorded(client: redis.Redis, rewrapper: Rewrapper) -> None:
    (mission_id,) = finish(client, 1)
    client.set(Key.AUDIT, "not a stream")
    with pytest.raises(AuditError):
        rewrapper.rewrap(rewrapper.keys(), why=WHY)
    assert sealed_to(client, mission_id) == OLD.key_id


@pytest.mark.server("WAIT")
def test_too_few_replicas_are_an_outage(client: redis.Redis, settings: Settings, audit: AuditLog) -> None:
    finish(client, 1)
    wanting = settings.model_copy(update={"redis_replicas": 1, "redis_timeout": 0.1})
    rewrapper = Rewrapper(client, wanting, [OLD], NEW.recipient, audit)
    with pytest.raises(LedgerUnavailable, match="0 of 1 replicas"):
        rewrapper.rewrap(rewrapper.keys(), why=WHY)


@pytest.fixture
def files(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's options, and its environment."""
    write_key_file(tmp_path / "old.key", OLD.line)
    write_key_file(tmp_path / "new.pub", NEW.recipient.line)
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    return ["--from", str(tmp_path / "old.key"), "--to", str(tmp_path / "new.pub")]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", "rewrap", *arguments])


def test_the_command_prints_the_counts(client: redis.Redis, files: list[str]) -> None:
    finish(client, 2)
    assert json.loads(_run(*files, "--json").stdout) == {
        "rewrapped": 2,
        "already": 0,
        "unreadable": 0,
        "others": 0,
        "gone": 0,
    }
    assert _run(*files).stdout == "0 rewrapped, 2 already, 0 unreadable, 0 others, 0 gone\n"


def test_the_new_key_may_be_given_inline(client: redis.Redis, files: list[str], audit: AuditLog) -> None:
    ids = finish(client, 1)
    assert _run(*files[:2], "--to", NEW.recipient.text).exit_code == 0
    assert readable(client, audit, ids, NEW)


def test_the_command_ends_with_1_when_a_result_does_not_open(client: redis.Redis, files: list[str]) -> None:
    (forged,) = finish(client, 1)
    client.set(result_key(forged, 3), b"nonsense")
    assert _run(*files).exit_code == 1


@pytest.mark.parametrize("bad", [["--to", "nonsense"], ["--from", "nowhere.key"], ["--reason", " "]])
def test_a_bad_option_is_exit_code_2_and_nothing_is_opened(
    client: redis.Redis, files: list[str], bad: list[str]
) -> None:
    (mission_id,) = finish(client, 1)
    assert _run(*files, *bad).exit_code == 2
    assert sealed_to(client, mission_id) == OLD.key_id


def test_an_identity_is_no_recipient(files: list[str]) -> None:
    result = _run(*files[:2], "--to", NEW.text)
    assert result.exit_code == 2
    assert NEW.text not in result.output
