"""When a try is worth another one, and how long to wait before it."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from mission.errors import InvalidMission, MissionFailed
from mission.model import Reason
from worker.work.retry import MAX_RETRY_AFTER, parse_retry_after, retrying


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("3600", 3600),
        ("99999", MAX_RETRY_AFTER),
        ("9" * 10, MAX_RETRY_AFTER),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_reads_seconds_and_dates(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize("left_out", ["", " GMT"])
def test_a_date_is_so_far_from_now(left_out: str) -> None:
    seconds = parse_retry_after(formatdate(time.time() + 100, usegmt=True).removesuffix(left_out))
    assert seconds is not None
    assert 90 <= seconds <= 100


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "-1",
        "1.5",
        "soon",
        "1e3",
        "٣",
        "9" * 11,
        "Fri, 99 Dec 1999 23:59:59 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
    ],
)
def test_takes_nothing_else(value: str | None) -> None:
    assert parse_retry_after(value) is None


def tries_of(failure: Exception, *, attempts: int = 3, seconds: float = 10) -> int:
    """How many tries a failure that always comes is worth."""
    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        raise failure

    with pytest.raises(type(failure)) as caught:
        retrying(attempts, time.monotonic() + seconds)(fail)
    assert caught.value is failure
    return len(tries)


@pytest.mark.parametrize(
    "failure",
    [
        MissionFailed(Reason.HTTP_CLIENT_ERROR),
        MissionFailed(Reason.TLS_FAILURE),
        MissionFailed(Reason.BLOCKED_ADDRESS),
        MissionFailed(Reason.DEADLINE_EXCEEDED),
        MissionFailed(Reason.HOST_PAUSED, retry_after=0.01),
        InvalidMission(Reason.INVALID_URL),
        ZeroDivisionError(),
    ],
)
def test_what_would_not_change_is_tried_once(failure: Exception) -> None:
    assert tries_of(failure) == 1


@pytest.mark.parametrize("reason", [Reason.DNS_FAILURE, Reason.CONNECTION_FAILED, Reason.HTTP_SERVER_ERROR])
def test_what_may_change_is_tried_as_often_as_allowed(reason: Reason) -> None:
    assert tries_of(MissionFailed(reason, retry_after=0), attempts=4) == 4


def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    started = time.monotonic()
    assert tries_of(MissionFailed(Reason.RATE_LIMITED, retry_after=60), seconds=20) == 1
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("asked", [None, 0.0])
def test_the_waits_are_jittered(asked: float | None) -> None:
    def fail() -> None:
        raise MissionFailed(Reason.CONNECTION_FAILED, retry_after=asked)

    waits: set[float] = set()
    for _ in range(5):
        policy = retrying(2, time.monotonic() + 60)
        policy.sleep = waits.add
        with pytest.raises(MissionFailed):
            policy(fail)
    assert len(waits) == 5
    assert all(0 <= wait <= 0.4 for wait in waits)
