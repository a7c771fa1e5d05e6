"""When to repeat a try, when to repeat an attempt, and how long to wait before it."""

from __future__ import annotations

import gc
import random
import time
import weakref
from contextlib import suppress

import pytest

from mission.errors import InvalidMission, MissionFailed
from mission.model import Reason
from worker.work.retry import (
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    NO_FAULT,
    TRY_BASE_SECONDS,
    between_attempts,
    within_attempt,
)


def tries_of(failure: Exception, *, attempts: int = 3, seconds: float = 10) -> int:
    """The number of tries for a permanent failure."""
    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        raise failure

    with pytest.raises(type(failure)) as caught:
        within_attempt(fail, attempts, time.monotonic() + seconds)
    assert caught.value is failure
    return len(tries)


class _Body:
    """A body that a weak reference can track."""


@pytest.mark.parametrize(
    "failure",
    [
        MissionFailed(Reason.HTTP_CLIENT_ERROR),
        MissionFailed(Reason.TLS_FAILURE),
        MissionFailed(Reason.BLOCKED_ADDRESS),
        MissionFailed(Reason.DEADLINE_EXCEEDED),
        MissionFailed(Reason.HOST_PAUSED, retry_after=0.01),
        MissionFailed(Reason.MEMORY_BUSY, retry_after=0.01),
        MissionFailed(Reason.PROXY_FAILED, retry_after=0.01),
        MissionFailed(Reason.PROXY_LOGIN_REFUSED, retry_after=0.01),
        InvalidMission(Reason.INVALID_URL),
        ZeroDivisionError(),
    ],
)
def test_what_would_not_change_is_tried_once(failure: Exception) -> None:
    assert tries_of(failure) == 1


@pytest.mark.parametrize("reason", [Reason.DNS_FAILURE, Reason.PROXY_REFUSED, Reason.HTTP_SERVER_ERROR])
def test_what_may_change_is_tried_as_often_as_allowed(reason: Reason) -> None:
    assert tries_of(MissionFailed(reason, retry_after=0), attempts=4) == 4


def test_a_failed_try_holds_nothing_that_it_read() -> None:
    """It must not wait for the garbage collector: the body counts against the process' memory budget."""
    bodies: list[weakref.ref[_Body]] = []

    def held() -> list[_Body]:
        return [body for reference in bodies if (body := reference())]

    def fail() -> None:
        assert held() == []
        body = _Body()
        bodies.append(weakref.ref(body))
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            raise MissionFailed(Reason.READ_TIMEOUT, retry_after=0) from None

    gc.disable()
    try:
        with suppress(MissionFailed):
            within_attempt(fail, 3, time.monotonic() + 10)
        assert (len(bodies), held()) == (3, [])
    finally:
        gc.enable()


def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    started = time.monotonic()
    assert tries_of(MissionFailed(Reason.RATE_LIMITED, retry_after=60), seconds=20) == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("asked", [None, 0.0])
def test_a_wait_between_tries_is_any_part_of_a_limit_that_doubles(
    asked: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    tries_of(MissionFailed(Reason.CONNECTION_FAILED, retry_after=asked), attempts=4)
    assert ranges[:3] == [(0, TRY_BASE_SECONDS), (0, TRY_BASE_SECONDS * 2), (0, TRY_BASE_SECONDS * 4)]


def test_the_wait_between_attempts_grows_with_each_up_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[1])
    waits = [between_attempts(Reason.READ_TIMEOUT, attempt, None) for attempt in (1, 2, 3, 99)]
    assert waits == [BACKOFF_BASE_SECONDS, BACKOFF_BASE_SECONDS * 2, BACKOFF_BASE_SECONDS * 4, BACKOFF_CAP_SECONDS]


def test_the_wait_between_attempts_is_jittered() -> None:
    waits = {between_attempts(Reason.READ_TIMEOUT, 1, None) for _ in range(5)}
    assert len(waits) == 5
    assert all(0 <= wait <= BACKOFF_BASE_SECONDS for wait in waits)


def test_the_wait_between_attempts_is_no_shorter_than_the_server_asked_for() -> None:
    assert between_attempts(Reason.RATE_LIMITED, 1, 60.0) == 60.0


@pytest.mark.parametrize("reason", sorted(NO_FAULT))
def test_what_is_no_fault_of_the_missions_waits_for_as_long_as_was_said(reason: Reason) -> None:
    assert [between_attempts(reason, 9, asked) for asked in (None, 7.0)] == [0.0, 7.0]
