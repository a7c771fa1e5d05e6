"""Endings of attempts, reported to the ledger, the metrics and the log. Only this module reports them.

An attempt ends with the pipeline's `Outcome`: `attempt_ended` logs its line and turns it into a `Commit` or a `Release`. `settle`
reports that to the ledger, which decides what it means for the mission. If the mission has ended, it is counted. If it will be
retried, it is not. If its lease expired and another worker claimed it, the result here is dropped and not counted; the other
worker's will be. Every mission that becomes a dead letter passes through `died`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from mission.model import Claim, Cut, Reason, State
from mission.store.changes import Commit, Release
from mission.store.ledger import Ledger
from worker.observe import metrics
from worker.observe.collectors import AT_ADMISSION
from worker.observe.logs import mission_context
from worker.settings import WorkerSettings
from worker.work import retry

log = logging.getLogger("decoder.mission")

# Looking up a label costs as much as counting.
_ended = cache(metrics.MISSIONS.labels)
_ended_at = cache(metrics.ENTRY_MISSIONS.labels)
_phase = cache(metrics.PHASE_DURATION.labels)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt: the seconds of each phase, and the secrets by detector with their sealed record if any, or a reason.

    `host` is the name, from `hosts.name_of`, of the host that the mission waits for if it is retried. `allowed_by` is the
    allowlist entry that covers its host, without a port; empty if there is none, or the URL is not known.
    """

    phases: Mapping[str, float]
    reason: Reason | None = None
    retry_after: float | None = None
    host: str = ""
    found: Counter[str] = field(default_factory=Counter)
    cut: frozenset[Cut | str] = frozenset()
    record: bytes | None = field(default=None, repr=False)
    allowed_by: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an attempt, as reported to the ledger. `since` is the time of its claim on the monotonic clock."""

    claim: Claim
    since: float
    told: Commit | Release
    found: Counter[str]


def attempt_ended(claim: Claim, since: float, outcome: Outcome) -> Ending:
    """Log an attempt in one line, and return the report for the ledger."""
    told, reason, seconds = _told(claim, outcome), outcome.reason, time.monotonic() - since
    state = told.state.value if isinstance(told, Commit) else "released"
    story: dict[str, object] = {
        "event.action": "mission-attempt",
        "event.outcome": "success" if reason is None else "failure",
        "event.duration": round(seconds * 1e9),
        "mission.outcome": state,
        "mission.age_seconds": round(_age(claim) + seconds, 3),
        **{f"mission.phase.{name}_seconds": round(spent, 6) for name, spent in outcome.phases.items()},
    }
    if reason is None:
        story["mission.secrets"] = outcome.found.total()
        if outcome.cut:
            story["mission.cut"] = sorted(outcome.cut)
    else:
        story["mission.reason"] = reason.value
    if isinstance(told, Release):
        story["mission.retry_in_seconds"] = round(told.delay_seconds, 3)
    # A postponed mission is not an attempt: it is released, and there can be very many.
    put_off = reason in retry.PUT_OFF
    log.log(logging.DEBUG if put_off else logging.INFO, "mission %s", state, extra=story)
    for name, spent in () if put_off else outcome.phases.items():
        _phase(name).observe(spent)
    if reason is not None and reason.policy_refusal:
        metrics.SECURITY_EVENTS.labels(reason.value).inc()
    return Ending(claim, since, told, outcome.found)


def settle(endings: Sequence[Ending], ledger: Ledger, settings: WorkerSettings) -> dict[int, State | None]:
    """Report ended attempts to the ledger, and count the missions that ended with them.

    Returns:
        The new state of each mission, by its claim's token; None if another worker has it.

    Raises:
        LedgerUnavailable: nothing is counted, and the caller can retry: the ledger recognises by token what it has already stored.
    """
    states = _tell([ending.told for ending in endings], ledger, settings)
    for ending in endings:
        _settled(ending, states[ending.claim.token])
    return states


def give_back(claims: Sequence[Claim], ledger: Ledger, settings: WorkerSettings) -> None:
    """Release missions at once without counting an attempt, because the worker shuts down.

    Raises:
        LedgerUnavailable: the missions return when their leases expire.
    """
    _tell([_told(claim, Outcome({}, Reason.SHUTDOWN)) for claim in claims], ledger, settings)


def died(mission_id: str, reason: Reason, allowed_by: str = "") -> None:
    """Count and log a new dead letter: its attempts are used up, it expired, or its workers were lost.

    `allowed_by` is as in `Outcome`; it is unknown if no worker had the mission when it died.
    """
    _ended(State.DEAD.value, reason.value).inc()
    _ended_at(allowed_by, metrics.DEAD).inc()
    story = {"event.action": "mission-dead", "mission.id": mission_id, "mission.reason": reason.value}
    log.warning("mission dead", extra=story)


def _told(claim: Claim, outcome: Outcome) -> Commit | Release:
    reason, entry = outcome.reason, outcome.allowed_by
    if reason is None:
        secrets = outcome.found.total()
        return Commit(claim.id, claim.token, State.SUCCEEDED, None, secrets, outcome.record, outcome.cut, entry)
    if not reason.transient:
        return Commit(claim.id, claim.token, State.FAILED, reason, allowed_by=entry)
    delay = retry.between_attempts(reason, claim.attempt, outcome.retry_after)
    return Release(claim.id, claim.token, reason, delay, reason not in retry.NO_FAULT, outcome.host, entry)


def _tell(told: Sequence[Commit | Release], ledger: Ledger, settings: WorkerSettings) -> dict[int, State | None]:
    """The new state of each mission, by its token; None if another worker has it."""
    commits = [one for one in told if isinstance(one, Commit)]
    releases = [one for one in told if isinstance(one, Release)]
    after = ledger.commit(commits, settings.result_ttl) if commits else []
    after += ledger.release(releases, settings.max_attempts) if releases else []
    tokens = [*(commit.token for commit in commits), *(release.token for release in releases)]
    return dict(zip(tokens, after, strict=True))


def _settled(ending: Ending, state: State | None) -> None:
    claim, reason, found = ending.claim, ending.told.reason, ending.found
    if state is None:
        log.warning("mission %s ended here after another worker had claimed it; this result is dropped", claim.id)
    if state is None or not state.terminal:
        return
    seconds = time.monotonic() - ending.since
    metrics.MISSION_DURATION.observe(seconds)
    metrics.MISSION_AGE.observe(_age(claim) + seconds)
    if state is State.DEAD:
        with mission_context(claim.id, claim.attempt, claim.submitter):
            # Without a reason it had succeeded, but there was no room for its result.
            died(claim.id, reason or Reason.STORED_QUOTA_EXCEEDED, ending.told.allowed_by)
        return
    _ended(state.value, reason.value if reason else "").inc()
    if reason is None:
        how = metrics.FOUND if found else metrics.EMPTY
    else:
        how = metrics.REFUSED if reason.policy_refusal else metrics.FAILED
    _ended_at(ending.told.allowed_by, how).inc()
    if isinstance(ending.told, Commit) and ending.told.record:
        metrics.RESULT_BYTES.inc(len(ending.told.record))
    if reason is None and not found:
        metrics.EMPTY_MISSIONS.inc()
    for cut in ending.told.cut if isinstance(ending.told, Commit) else ():
        metrics.INCOMPLETE.labels(cut).inc()
    for detector, count in found.items():
        metrics.SECRETS_EXTRACTED.labels(detector).inc(count)


def _age(claim: Claim) -> float:
    """Seconds from a mission's enqueueing to its claim."""
    return (claim.now_ms - claim.submitted_at_ms) / 1000


# Every possible ending has a series from the start, so that a rate includes the first one.
_ended(State.SUCCEEDED.value, "")
for _reason in set(Reason) - {*AT_ADMISSION, Reason.MALFORMED_MESSAGE, *retry.NO_FAULT}:
    _dead = _reason.transient or _reason in (Reason.ATTEMPTS_EXHAUSTED, Reason.EXPIRED)
    _ended((State.DEAD if _dead else State.FAILED).value, _reason.value)
_ended(State.DEAD.value, Reason.STORED_QUOTA_EXCEEDED.value)
