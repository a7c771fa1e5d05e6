"""When a try is worth another one, and how long to wait before it.

Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"), and no less than `Retry-After` says (RFC 9110
section 10.2.3): only for reasons that are transient, and only where the wait fits into what remains.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import monotonic, time

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_random_exponential

from mission.errors import MissionFailed
from mission.model import Reason

BASE_SECONDS = 0.2
MOST_SECONDS = 5.0
MAX_RETRY_AFTER = 3600.0

# A mission that outlived so many leases may be what kills its workers. A worker takes one such suspect at a time, so that none
# dies with another time and again; the others come back after the delay.
SUSPECT_AFTER = 2
SUSPECT_DELAY_SECONDS = 2.0

_SECONDS = re.compile(r"[0-9]{1,10}")
_JITTER = wait_random_exponential(multiplier=BASE_SECONDS, max=MOST_SECONDS)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from now that a `Retry-After` field asks for, from 0 to `MAX_RETRY_AFTER`; None where it says nothing."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
        # A date without a zone is in UTC: HTTP knows no other.
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


class _TooLate(stop_base):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return monotonic() + retry_state.upcoming_sleep >= self._deadline


class _Wait(wait_base):
    def __call__(self, retry_state: RetryCallState) -> float:
        failure = _failure(retry_state)
        asked = failure.retry_after if isinstance(failure, MissionFailed) else None
        return max(asked or 0.0, _JITTER(retry_state))


def retrying(attempts: int, deadline: float) -> Retrying:
    """So many tries at most, all of them and the waits between before `deadline` on the monotonic clock.

    The last failure is raised as it is, with the `retry_after` that did not fit.
    """
    return Retrying(
        stop=stop_after_attempt(attempts) | _TooLate(deadline),
        wait=_Wait(),
        retry=retry_if_exception(_worth_another),
        reraise=True,
    )


# No time is left; or it is not for this fetch, which holds places elsewhere, to wait until a host has one.
_NOT_HERE = (Reason.DEADLINE_EXCEEDED, Reason.HOST_PAUSED)


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, MissionFailed) and error.reason.transient and error.reason not in _NOT_HERE


def _failure(retry_state: RetryCallState) -> BaseException | None:
    return retry_state.outcome.exception() if retry_state.outcome else None
