"""The retry policy: when a worker retries a mission, and when not.

Within an attempt a worker tries to fetch up to `DECODER_FETCH_ATTEMPTS` times, with a short backoff between tries, until the
deadline. Between attempts the mission returns to the ledger and is due again after a longer backoff, for any worker; after
`DECODER_MAX_ATTEMPTS` attempts it becomes a dead letter. Both happen only for transient reasons (`Reason.transient`). Both backoffs
have full jitter: a random part of a limit that doubles each time (Brooker, "Exponential Backoff And Jitter", 2015), but at least
the server's `Retry-After` (RFC 9110, section 10.2.3).

An attempt that ended through no fault of the mission does not count (`NO_FAULT`). A mission whose workers died is a suspect.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, wait_random_exponential

from mission.errors import MissionFailed
from mission.model import Reason

# Backoff between the tries of an attempt, in seconds.
TRY_BASE_SECONDS = 0.2
TRY_CAP_SECONDS = 5.0
# Backoff between attempts, in seconds.
BACKOFF_BASE_SECONDS = 2.0
BACKOFF_CAP_SECONDS = 300.0
# Longer than any of these, and than the longest accepted `Retry-After` (`worker.fetch.fetcher.MAX_RETRY_AFTER`).
LONGEST_WAIT_SECONDS = 4000.0
# A mission that lost this many leases may be killing its workers. Until then another mission may have been the cause, and the lost
# attempts do not count. A worker takes one suspect at a time, so that suspects do not repeatedly die together; the others return after
# the delay. A separate process extracts a suspect's document, so a hostile document ends `SUSPECT_AFTER` workers at most. A mission
# that ends workers during the fetch ends `SUSPECT_AFTER` + DECODER_MAX_ATTEMPTS at most.
SUSPECT_AFTER = 2
SUSPECT_DELAY_SECONDS = 2.0

# The host or the process has no free slot now, and a fetch slot is too expensive for waiting: this does not count as a try.
PUT_OFF = (Reason.HOST_BUSY, Reason.HOST_PAUSED, Reason.MEMORY_BUSY)
# The egress proxy does not work: the attempt is reported, and retried later.
NO_WAY_OUT = (Reason.PROXY_FAILED, Reason.PROXY_LOGIN_REFUSED)
# These attempts do not count: the mission is not the cause, and the next attempt may succeed at once.
NO_FAULT = frozenset({*PUT_OFF, *NO_WAY_OUT, Reason.STORE_UNAVAILABLE, Reason.SHUTDOWN})
_NOT_WITHIN_THE_ATTEMPT = (Reason.DEADLINE_EXCEEDED, *PUT_OFF, *NO_WAY_OUT)

_JITTER = wait_random_exponential(multiplier=TRY_BASE_SECONDS, max=TRY_CAP_SECONDS)
_Result = TypeVar("_Result")


def between_attempts(reason: Reason, attempt: int, retry_after: float | None) -> float:
    """Seconds until a mission is due again after attempt number `attempt` (from 1) ended with `reason`."""
    asked = retry_after or 0.0
    if reason in NO_FAULT:
        return asked
    limit = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** (attempt - 1))
    return max(asked, random.uniform(0, limit))  # noqa: S311 (jitter, not a secret)


def within_attempt(
    try_: Callable[[], _Result], tries: int, deadline: float, tried: Callable[[str], None] = lambda _result: None
) -> _Result:
    """Call `try_` up to `tries` times and return its result; tries and backoffs end before `deadline` on the monotonic clock.

    `tried` gets the result of each try: `ok`, or the reason. A postponed fetch is not a try.

    Raises:
        MissionFailed: the last try's, with the `retry_after` that exceeds the deadline.
    """
    asked = [0.0]

    def told() -> _Result:
        try:
            result = try_()
        except MissionFailed as failure:
            asked.append(failure.retry_after or 0.0)
            if failure.reason not in PUT_OFF:
                tried(failure.reason.value)
            # Its frames and its context's hold the data that was read, and tenacity keeps the error in a reference cycle: free them at once.
            failure.__context__ = None
            raise failure.with_traceback(None) from None
        tried("ok")
        return result

    try:
        return told()  # nearly all fetches end here, without the cost of tenacity
    except MissionFailed as failure:
        first = [failure]

    def next_try() -> _Result:
        if first:
            raise first.pop()
        return told()

    again = Retrying(
        retry=retry_if_exception(_worth_another),
        wait=lambda state: max(asked[-1], _JITTER(state)),
        stop=lambda state: state.attempt_number >= tries or monotonic() + state.upcoming_sleep >= deadline,
        reraise=True,
    )
    return again(next_try)


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, MissionFailed) and error.reason.transient and error.reason not in _NOT_WITHIN_THE_ATTEMPT
