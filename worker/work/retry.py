"""When a mission is tried again, and when it is not: the whole policy.

Within an attempt a worker tries to fetch up to `DECODER_FETCH_ATTEMPTS` times, with short waits between the tries, as long as
the deadline lasts. Between attempts the mission goes back to the ledger and is due again after a longer wait, for any worker;
after `DECODER_MAX_ATTEMPTS` attempts it is dead. Both happen for transient reasons only (`Reason.transient`). Both waits have
full jitter: a random part of a limit that doubles each time (Brooker, "Exponential Backoff And Jitter", 2015), and no less than
the server asked for in `Retry-After` (RFC 9110, section 10.2.3).

An attempt that ended for no fault of the mission is given back (`NO_FAULT`). A mission whose workers died is a suspect.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_random_exponential

from mission.errors import MissionFailed
from mission.model import Reason

# Between the tries of an attempt, in seconds.
TRY_BASE_SECONDS = 0.2
TRY_CAP_SECONDS = 5.0
# Between attempts, in seconds.
BACKOFF_BASE_SECONDS = 2.0
BACKOFF_CAP_SECONDS = 300.0
# These attempts do not count: the mission did nothing wrong, and the next one may do better at once.
NO_FAULT = frozenset({Reason.STORE_UNAVAILABLE, Reason.HOST_PAUSED, Reason.SHUTDOWN})
# A mission that outlived so many leases may be what kills its workers. A worker takes one such suspect at a time, so that none
# dies with another time and again; the others come back after the delay.
SUSPECT_AFTER = 2
SUSPECT_DELAY_SECONDS = 2.0

# No time is left; or the host has no place now, and a fetch slot is too dear to wait in.
_NOT_WITHIN_THE_ATTEMPT = (Reason.DEADLINE_EXCEEDED, Reason.HOST_PAUSED)

_Result = TypeVar("_Result")


def between_attempts(reason: Reason, attempt: int, retry_after: float | None) -> float:
    """Seconds until a mission is due again, whose attempt of this number (from 1) ended for `reason`."""
    asked = retry_after or 0.0
    if reason in NO_FAULT:
        return asked
    limit = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** (attempt - 1))
    return max(asked, random.uniform(0, limit))  # noqa: S311 (jitter, not a secret)


def within_attempt(try_: Callable[[], _Result], tries: int, deadline: float) -> _Result:
    """What one of so many tries brings; they and the waits between end before `deadline` on the monotonic clock.

    Raises:
        MissionFailed: the last try's, with the `retry_after` that did not fit. Where the host had no place for a further try,
            the one before it says why the attempt failed.
    """
    failures: list[BaseException | None] = []
    again = Retrying(
        stop=stop_after_attempt(tries) | _TooLate(deadline),
        wait=_Wait(),
        retry=retry_if_exception(_worth_another),
        before_sleep=lambda state: failures.append(_failure(state)),
        reraise=True,
    )
    try:
        return again(try_)
    except MissionFailed as failure:
        if failure.reason is Reason.HOST_PAUSED and failures:
            raise failures[-1] or failure from None
        raise


class _TooLate(stop_base):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return monotonic() + retry_state.upcoming_sleep >= self._deadline


class _Wait(wait_base):
    jitter = wait_random_exponential(multiplier=TRY_BASE_SECONDS, max=TRY_CAP_SECONDS)

    def __call__(self, retry_state: RetryCallState) -> float:
        failure = _failure(retry_state)
        asked = failure.retry_after if isinstance(failure, MissionFailed) else None
        return max(asked or 0.0, self.jitter(retry_state))


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, MissionFailed) and error.reason.transient and error.reason not in _NOT_WITHIN_THE_ATTEMPT


def _failure(retry_state: RetryCallState) -> BaseException | None:
    return retry_state.outcome.exception() if retry_state.outcome else None
