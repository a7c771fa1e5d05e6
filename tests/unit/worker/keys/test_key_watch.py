"""The audit log records the keys that workers use: once per change, whichever worker sees it first, and again when Redis is back."""

from __future__ import annotations

import logging

import pytest
import redis

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.errors import AuditError
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import Key
from tests.conftest import wait_for
from worker.keys.key_watch import KeyWatch

URL, ALL, TEAM = "DECODER_URL_KEY", "DECODER_RECIPIENT", "DECODER_RECIPIENTS, team-a.pub"


@pytest.fixture
def audit(client: redis.Redis) -> AuditLog:
    """The empty audit chain of the keys."""
    return AuditLog(client, Actor("worker", "decoder", "pod-1"), lambda _line: None, Key.AUDIT_KEYS)


@pytest.fixture
def keys() -> dict[str, str]:
    """The keys in use; tests change them."""
    return {URL: "0001", ALL: "00aa"}


def recorded(audit: AuditLog) -> list[tuple[str, str | None]]:
    return [(entry.why, entry.key_id) for entry in audit.entries()]


def test_what_is_in_use_at_the_start_is_on_record(audit: AuditLog, keys: dict[str, str], client: redis.Redis) -> None:
    KeyWatch(lambda: keys, audit).look()
    assert recorded(audit) == [(ALL, "none>00aa"), (URL, "none>0001")]
    (entry, _) = audit.entries()
    assert (entry.action, entry.actor.host, entry.outcome) == ("key-change", "pod-1", "in use")
    assert not client.exists(Key.AUDIT)


def test_a_change_is_on_record_once_with_both_keys(audit: AuditLog, keys: dict[str, str]) -> None:
    watch = KeyWatch(lambda: keys, audit)
    watch.look()
    keys |= {ALL: "00bb", TEAM: "00cc"}
    watch.look()
    watch.look()
    assert recorded(audit)[2:] == [(ALL, "00aa>00bb"), (TEAM, "none>00cc")]
    del keys[TEAM]
    watch.look()
    assert recorded(audit)[4:] == [(TEAM, "00cc>none")]


def test_what_another_worker_has_recorded_is_not_recorded_again(audit: AuditLog, keys: dict[str, str]) -> None:
    one, other = KeyWatch(lambda: keys, audit), KeyWatch(lambda: keys, audit)
    one.look()
    other.look()
    keys[ALL] = "00bb"
    other.look()
    one.look()
    KeyWatch(lambda: keys, audit).look()
    assert len(recorded(audit)) == 3


def test_a_key_of_before_that_comes_back_is_a_change(audit: AuditLog, keys: dict[str, str]) -> None:
    watch = KeyWatch(lambda: keys, audit)
    for key in ("00aa", "00bb", "00aa"):
        keys[ALL] = key
        watch.look()
    assert recorded(audit)[-1] == (ALL, "00bb>00aa")


def test_a_worker_that_keeps_its_old_key_for_a_while_does_not_take_the_change_back(audit: AuditLog) -> None:
    before, after = KeyWatch(lambda: {ALL: "00aa"}, audit), KeyWatch(lambda: {ALL: "00bb"}, audit)
    for watch in (before, after, before, after):
        watch.look()
    assert recorded(audit) == [(ALL, "none>00aa"), (ALL, "00aa>00bb")]


def test_what_could_not_be_recorded_is_tried_again(audit: AuditLog, keys: dict[str, str], client: redis.Redis) -> None:
    watch = KeyWatch(lambda: keys, audit)
    client.set(Key.AUDIT_KEYS, "not a stream")
    with pytest.raises(AuditError):
        watch.look()
    client.delete(Key.AUDIT_KEYS)
    watch.look()
    assert len(recorded(audit)) == 2


def test_the_thread_goes_on_after_trouble_and_says_so_once(
    audit: AuditLog, keys: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.keys.key_watch.REFRESH_SECONDS", 0.01)
    looks = 0

    def in_use() -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("a canary")
        return keys

    caplog.set_level(logging.ERROR)
    with connect(Settings.from_env(redis_url="redis://127.0.0.1:1/0")) as nowhere:
        deaf = KeyWatch(in_use, AuditLog(nowhere, chain=Key.AUDIT_KEYS))
        deaf.start()
        wait_for(lambda: looks > 5, what="some looks")
        deaf.stop()
        deaf._thread.join(10)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "the key watch met an unexpected ValueError"
    assert len(messages) == 2
    assert messages[1].startswith("cannot record the keys in use: the audit could not be")
