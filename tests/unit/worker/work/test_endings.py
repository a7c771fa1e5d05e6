"""The effect of an ending on the ledger, the metrics and the log."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import redis

from mission.model import Claim, Reason, State
from mission.store.changes import Commit, Release
from mission.store.ledger import Ledger
from tests.unit.worker.parts import Keys, deaths, ended, succeeded, timed_out
from worker.observe import metrics
from worker.settings import WorkerSettings
from worker.work.endings import Ending, Outcome, attempt_ended, died, settle

CLAIM = Claim(
    "0f8fad5b-d9cb-469f-a165-70867728950e", 7, 2, "app", b"", submitted_at_ms=0, expires_at_ms=9000, now_ms=5000
)
PHASES = {"validate": 0.001, "fetch": 0.25}

# Written out, not derived: a reason that moves to another list changes the fate of missions.
WOULD_NOT_CHANGE = (
    *(Reason.INVALID_URL, Reason.SCHEME_NOT_ALLOWED, Reason.HOST_NOT_ALLOWED, Reason.PORT_NOT_ALLOWED),
    *(Reason.CREDENTIALS_IN_URL, Reason.BLOCKED_ADDRESS, Reason.TLS_FAILURE, Reason.HTTP_CLIENT_ERROR),
    *(Reason.TOO_MANY_REDIRECTS, Reason.BODY_TOO_LARGE, Reason.MALFORMED_RESPONSE, Reason.TOO_MANY_SECRETS),
    *(Reason.RESULT_TOO_LARGE, Reason.EXTRACTION_CRASHED, Reason.CREDENTIALS_REFUSED),
)
MAY_CHANGE = (
    *(Reason.DNS_FAILURE, Reason.CONNECT_TIMEOUT, Reason.READ_TIMEOUT, Reason.DEADLINE_EXCEEDED),
    *(Reason.CONNECTION_FAILED, Reason.HTTP_SERVER_ERROR, Reason.RATE_LIMITED, Reason.INTERNAL_ERROR),
    Reason.PROXY_REFUSED,
)
NO_FAULT_OF_THE_MISSION = (
    Reason.HOST_BUSY,
    Reason.HOST_PAUSED,
    Reason.MEMORY_BUSY,
    Reason.PROXY_FAILED,
    Reason.PROXY_LOGIN_REFUSED,
    Reason.SHUTDOWN,
    Reason.STORE_UNAVAILABLE,
)


def end(outcome: Outcome, claim: Claim = CLAIM) -> Ending:
    return attempt_ended(claim, time.monotonic(), outcome)


def counted(metric: Any, *labels: str) -> float:
    return float((metric.labels(*labels) if labels else metric)._value.get())


def entries() -> Counter[tuple[str, str]]:
    """The number of missions that ended, by allowlist entry and outcome."""
    (family,) = metrics.ENTRY_MISSIONS.collect()
    return Counter(
        {
            (sample.labels["allowed_by"], sample.labels["outcome"]): int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total")
        }
    )


def observed(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"decoder_{name}_count", labels) or 0.0


# Changes for the ledger


def test_a_success_is_committed_with_its_record() -> None:
    told = end(Outcome(PHASES, found=Counter(marker=2, other=1), record=b"sealed")).told
    assert told == Commit(CLAIM.id, 7, State.SUCCEEDED, None, 3, b"sealed")


@pytest.mark.parametrize("reason", WOULD_NOT_CHANGE)
def test_what_would_not_change_is_committed_as_failed(reason: Reason) -> None:
    assert end(Outcome(PHASES, reason)).told == Commit(CLAIM.id, 7, State.FAILED, reason)


@pytest.mark.parametrize("reason", MAY_CHANGE)
def test_what_may_change_is_released_for_later(reason: Reason) -> None:
    told = end(Outcome(PHASES, reason, retry_after=60.0)).told
    assert told == Release(CLAIM.id, 7, reason, 60.0)


@pytest.mark.parametrize("reason", NO_FAULT_OF_THE_MISSION)
def test_a_mission_that_did_nothing_wrong_keeps_its_attempt(reason: Reason) -> None:
    told = end(Outcome(PHASES, reason, retry_after=3.0, host="host")).told
    assert told == Release(CLAIM.id, 7, reason, 3.0, uses_attempt=False, host="host")


def test_each_reason_is_one_that_an_attempt_ends_for_or_one_of_the_ledgers() -> None:
    of_the_ledger = {
        Reason.ATTEMPTS_EXHAUSTED,
        Reason.LEASE_EXPIRED,
        Reason.EXPIRED,
        Reason.CANCELLED,
        Reason.MALFORMED_MESSAGE,
    }
    at_admission = {Reason.QUOTA_EXCEEDED, Reason.QUEUE_FULL, Reason.IDEMPOTENCY_CONFLICT, Reason.STORED_QUOTA_EXCEEDED}
    of_an_attempt = {*WOULD_NOT_CHANGE, *MAY_CHANGE, *NO_FAULT_OF_THE_MISSION}
    assert of_an_attempt == set(Reason) - of_the_ledger - at_admission


@pytest.mark.parametrize(("attempt", "limit"), [(1, 2.0), (3, 8.0), (50, 300.0)])
def test_the_wait_grows_with_the_attempt(attempt: int, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    told = end(Outcome(PHASES, Reason.READ_TIMEOUT), replace(CLAIM, attempt=attempt)).told
    assert told == Release(CLAIM.id, 7, Reason.READ_TIMEOUT, limit)


# Metrics and log of an attempt


def test_one_line_tells_how_an_attempt_went(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    end(Outcome(PHASES, found=Counter(marker=3), record=b"sealed"))
    end(Outcome(PHASES, Reason.CONNECTION_FAILED, retry_after=60.0))
    good, bad = (vars(record) for record in caplog.records)
    assert (good["message"], good["name"]) == ("mission succeeded", "decoder.mission")
    assert good["event.action"] == bad["event.action"] == "mission-attempt"
    assert (good["event.outcome"], good["mission.outcome"], good["mission.secrets"]) == ("success", "succeeded", 3)
    assert (good["mission.phase.fetch_seconds"], good["mission.age_seconds"]) == (0.25, 5.0)
    assert "mission.reason" not in good
    assert (bad["event.outcome"], bad["mission.outcome"]) == ("failure", "released")
    assert (bad["mission.reason"], bad["mission.retry_in_seconds"]) == ("connection_failed", 60.0)
    assert bad["event.duration"] >= 0


def test_to_be_waits_for_is_no_attempt_and_told_at_debug_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = observed("phase_duration_seconds", phase="fetch")
    end(Outcome(PHASES, Reason.HOST_PAUSED, retry_after=3.0))
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert observed("phase_duration_seconds", phase="fetch") == before


def test_every_phase_that_was_entered_is_timed() -> None:
    before = {phase: observed("phase_duration_seconds", phase=phase) for phase in metrics.PHASES}
    end(Outcome(PHASES, Reason.CONNECTION_FAILED))
    timed = {phase: observed("phase_duration_seconds", phase=phase) - before[phase] for phase in metrics.PHASES}
    assert timed == {"validate": 1, "fetch": 1, "extract": 0, "seal": 0}


def test_what_policy_refused_is_a_security_event() -> None:
    before = counted(metrics.SECURITY_EVENTS, "blocked_address")
    end(Outcome(PHASES, Reason.BLOCKED_ADDRESS))
    end(Outcome(PHASES, Reason.HTTP_CLIENT_ERROR))
    assert counted(metrics.SECURITY_EVENTS, "blocked_address") == before + 1


# Metrics of a mission


def end_mission(ledger: Ledger, settings: WorkerSettings, outcome: Outcome, claim: Claim, **changes: object) -> None:
    settle([end(outcome, claim)], ledger, settings.model_copy(update=changes))


def test_a_mission_that_ended_is_counted_and_timed_with_its_secrets(
    ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    before = (
        ended(State.SUCCEEDED),
        observed("mission_duration_seconds"),
        observed("mission_age_seconds"),
        counted(metrics.SECRETS_EXTRACTED, "marker"),
        counted(metrics.EMPTY_MISSIONS),
        counted(metrics.RESULT_BYTES),
    )
    end_mission(ledger, settings, Outcome(PHASES, found=Counter(marker=3), record=b"sealed"), keys.claim())
    end_mission(ledger, settings, succeeded(CLAIM), keys.claim())
    assert (
        ended(State.SUCCEEDED),
        observed("mission_duration_seconds"),
        observed("mission_age_seconds"),
        counted(metrics.SECRETS_EXTRACTED, "marker"),
        counted(metrics.EMPTY_MISSIONS),
        counted(metrics.RESULT_BYTES),
    ) == (before[0] + 2, before[1] + 2, before[2] + 2, before[3] + 3, before[4] + 1, before[5] + 2 * len(b"sealed"))


def test_a_mission_that_will_be_tried_again_has_not_ended(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    claim, before = keys.claim(), observed("mission_duration_seconds")
    end_mission(ledger, settings, timed_out(CLAIM), claim)
    assert ledger.status(claim.id).state is State.RETRYING
    assert (observed("mission_duration_seconds"), deaths(caplog)) == (before, [])


def test_a_mission_whose_attempts_are_used_up_is_dead_counted_and_told_with_its_reason(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    claim, before = keys.claim(), (ended(State.DEAD, "read_timeout"), observed("mission_duration_seconds"))
    end_mission(ledger, settings, timed_out(CLAIM), claim, max_attempts=1)
    assert ledger.status(claim.id).state is State.DEAD
    assert (ended(State.DEAD, "read_timeout"), observed("mission_duration_seconds")) == (before[0] + 1, before[1] + 1)
    assert deaths(caplog) == [(claim.id, "read_timeout")]


def test_a_mission_whose_result_finds_no_room_is_dead_counted_and_told_with_its_reason(
    client: redis.Redis, settings: WorkerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    small = settings.model_copy(update={"stored_quota": 5})
    ledger = Ledger(client, small)
    claim, before = Keys(ledger, small).claim(), ended(State.DEAD, "stored_quota_exceeded")
    secrets = counted(metrics.SECRETS_EXTRACTED, "marker")
    end_mission(ledger, small, Outcome(PHASES, found=Counter(marker=3), record=b"sealed"), claim)
    assert ledger.status(claim.id).reason is Reason.STORED_QUOTA_EXCEEDED
    assert ended(State.DEAD, "stored_quota_exceeded") == before + 1
    assert counted(metrics.SECRETS_EXTRACTED, "marker") == secrets
    assert deaths(caplog) == [(claim.id, "stored_quota_exceeded")]


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome(PHASES, found=Counter(marker=3), record=b"sealed", allowed_by="*.example.com"), "found"),
        (Outcome(PHASES, allowed_by="*.example.com"), "empty"),
        (Outcome(PHASES, Reason.BLOCKED_ADDRESS, allowed_by="*.example.com"), "refused"),
        (Outcome(PHASES, Reason.HTTP_CLIENT_ERROR, allowed_by="*.example.com"), "failed"),
        (Outcome(PHASES, Reason.READ_TIMEOUT, allowed_by="*.example.com"), "dead"),
        (Outcome(PHASES, Reason.HOST_NOT_ALLOWED), "refused"),
    ],
)
def test_a_mission_that_ended_is_counted_once_by_its_entry_of_the_allowlist(
    outcome: Outcome, word: str, ledger: Ledger, settings: WorkerSettings, keys: Keys
) -> None:
    before = entries()
    end_mission(ledger, settings, outcome, keys.claim(), max_attempts=1)
    assert entries() - before == Counter({(outcome.allowed_by, word): 1})


def test_a_mission_that_died_unseen_is_counted_with_what_no_entry_allows() -> None:
    before = entries()
    died(CLAIM.id, Reason.EXPIRED)
    assert entries() - before == Counter({("", "dead"): 1})


def test_what_entries_count_is_what_all_missions_count(ledger: Ledger, settings: WorkerSettings, keys: Keys) -> None:
    def both() -> tuple[float, float]:
        (family,) = metrics.MISSIONS.collect()
        total = sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
        return total, sum(entries().values())

    before = both()
    for outcome in (Outcome(PHASES), Outcome(PHASES, Reason.TLS_FAILURE), Outcome(PHASES, Reason.READ_TIMEOUT)):
        end_mission(ledger, settings, outcome, keys.claim(), max_attempts=2)
    assert both() == (before[0] + 2, before[1] + 2)


def test_a_mission_in_other_hands_is_told_and_not_counted(
    ledger: Ledger, settings: WorkerSettings, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    claim = keys.claim()
    ledger.release([Release(claim.id, claim.token, Reason.SHUTDOWN, 0.0)], 5)
    before = (ended(State.SUCCEEDED), counted(metrics.EMPTY_MISSIONS))
    end_mission(ledger, settings, succeeded(CLAIM), claim)
    assert (ended(State.SUCCEEDED), counted(metrics.EMPTY_MISSIONS)) == before
    assert (
        f"mission {claim.id} ended here after another worker had claimed it; this result is dropped" in caplog.messages
    )
    assert ledger.status(claim.id).state is State.RETRYING


def test_every_ending_that_there_can_be_has_a_series_from_the_start() -> None:
    series = {
        (sample.labels["outcome"], sample.labels["reason"])
        for family in metrics.MISSIONS.collect()
        for sample in family.samples
    }
    assert {("succeeded", ""), ("failed", "tls_failure"), ("dead", "read_timeout"), ("dead", "expired")} <= series
    assert not {("dead", "host_paused"), ("dead", "shutdown"), ("failed", "queue_full")} & series
    assert ("dead", "stored_quota_exceeded") in series
