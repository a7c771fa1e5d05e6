"""The check of the guard: which messages come out when a poisoned one goes in."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from kombu.connection import Connection

from worker.observe import metrics
from worker.queue import intake
from worker.queue.entry import MalformedMessage
from worker.queue.guard import delivered
from worker.queue.intake import GuardedConnection
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")


def test_the_guard_lets_the_good_one_through_alone_and_nobody_hears_of_it(
    settings: WorkerSettings, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metrics.SECURITY_EVENTS.labels("malformed_message")
    before = counter._value.get()
    with GuardedConnection(settings.redis_url.get_secret_value()) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        assert delivered(connection, 5) == ["decoder.status"]
    assert list(client.scan_iter()) == []
    assert counter._value.get() == before
    assert caplog.text == ""


def test_an_open_guard_is_seen_and_nothing_is_left_behind(settings: WorkerSettings, client: redis.Redis) -> None:
    with Connection(settings.redis_url.get_secret_value()) as connection:  # type: ignore[no-untyped-call]  # kombu has few types
        assert delivered(connection, 5) == ["decoder.poison", "decoder.status"]
    assert list(client.scan_iter()) == []


def test_a_message_that_does_not_come_is_waited_for_no_longer_than_that(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> Any:
        raise MalformedMessage("bad")

    monkeypatch.setattr(intake, "read", refuse)
    with (
        GuardedConnection(settings.redis_url.get_secret_value()) as connection,  # type: ignore[no-untyped-call]  # kombu has few types
        pytest.raises(connection.connection_errors),
    ):
        delivered(connection, 0.1)
