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

from tenacity import Retrying, retry_if_exception, wait_random_exponential

from mission.errors import MissionFailed
from mission.model import Reason

# Between the tries of an attempt, in seconds.
TRY_BASE_SECONDS = 0.2
TRY_CAP_SECONDS = 5.0
# Between attempts, in seconds.
BACKOFF_BASE_SECONDS = 2.0
BACKOFF_CAP_SECONDS = 300.0
# More than any of those, and than what a server may ask for (`worker.fetch.fetcher.MAX_RETRY_AFTER`).
LONGEST_WAIT_SECONDS = 4000.0
# A mission that outlived so many leases may be what kills its workers; until then it may have been a neighbour, and the lost attempts
# do not count. A worker takes one such suspect at a time, so that none dies with another time and again; the others come back
# after the delay. A suspect's document is extracted in a process of its own: a hostile one takes along `SUSPECT_AFTER` workers at
# most. What else ends workers, in the fetch, takes along `SUSPECT_AFTER` + DECODER_MAX_ATTEMPTS at most.
SUSPECT_AFTER = 2
SUSPECT_DELAY_SECONDS = 2.0

# The host or the process has no place now, and a fetch slot is too dear to wait in: to find that out is no try.
PUT_OFF = (Reason.HOST_BUSY, Reason.HOST_PAUSED, Reason.MEMORY_BUSY)
# There is no way out: that is told, and tried again later.
NO_WAY_OUT = (Reason.PROXY_FAILED, Reason.PROXY_LOGIN_REFUSED)
# These attempts do not count: the mission did nothing wrong, and the next one may do better at once.
NO_FAULT = frozenset({*PUT_OFF, *NO_WAY_OUT, Reason.STORE_UNAVAILABLE, Reason.SHUTDOWN})
_NOT_WITHIN_THE_ATTEMPT = (Reason.DEADLINE_EXCEEDED, *PUT_OFF, *NO_WAY_OUT)

_JITTER = wait_random_exponential(multiplier=TRY_BASE_SECONDS, max=TRY_CAP_SECONDS)
_Result = TypeVar("_Result")


def between_attempts(reason: Reason, attempt: int, retry_after: float | None) -> float:
    """Seconds until a mission is due again, whose attempt of this number (from 1) ended for `reason`."""
    asked = retry_after or 0.0
    if reason in NO_FAULT:
        return asked
    limit = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** (attempt - 1))
    return max(asked, random.uniform(0, limit))  # noqa: S311 (jitter, not a secret)


def within_attempt(
    try_: Callable[[], _Result], tries: int, deadline: float, tried: Callable[[str], None] = lambda _result: None
) -> _Result:
    """What one of so many tries brings; they and the waits between end before `deadline` on the monotonic clock.

    `tried` hears how each ended: `ok`, or the reason. To be put off is no try.

    Raises:
        MissionFailed: the last try's, with the `retry_after` that did not fit.
    """
    asked = [0.0]

    def told() -> _Result:
        try:
            result = try_()
        except MissionFailed as failure:
            asked.append(failure.retry_after or 0.0)
            if failure.reason not in PUT_OFF:
                tried(failure.reason.value)
            # Its frames, and those of what it came from, hold what was read, and tenacity holds it in a cycle: free them at once.
            failure.__context__ = None
            raise failure.with_traceback(None) from None
        tried("ok")
        return result

    try:
        return told()  # nearly all end here, and without what it costs to keep account of tries
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
