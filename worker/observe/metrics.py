"""The catalogue of all metrics, on its own registry: see `worker.observe.scrapes`.

No label contains a URL, a host, a category or other foreign input: label values come from closed sets, and
from the allowlist, whose entries are the operator's. Their series are zero from the start, so that a rate sees the
first event; `worker.work.endings` has those of missions' ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from mission.model import Cut, Reason
from mission.version import COMMIT, VERSION
from worker.extract.detectors import DETECTORS
from worker.observe.collectors import LedgerCollector, NetworkCollector

# In seconds. Buckets surround 10 s: an alert on p95 > 10 s needs some beyond it.
DURATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60, 120)
PHASE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, *DURATION_BUCKETS)
# A mission may wait in the queue for as long as it may live.
AGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 30, 60, 120, 300, 900, 3600, 10_800, 43_200, 86_400)

PHASES = ("validate", "fetch", "extract", "seal")
# How a mission ended, for the counts by allowlist entry: with secrets, without, refused by policy, failed otherwise, dead letter.
FOUND, EMPTY, REFUSED, FAILED, DEAD = ENTRY_OUTCOMES = ("found", "empty", "refused", "failed", "dead")
# The results of a fetch attempt, besides "ok".
_FETCH_REASONS = (
    *(reason for reason in Reason if reason.policy_refusal),
    *(Reason.DNS_FAILURE, Reason.CONNECT_TIMEOUT, Reason.READ_TIMEOUT, Reason.DEADLINE_EXCEEDED),
    *(Reason.CONNECTION_FAILED, Reason.TLS_FAILURE, Reason.HTTP_CLIENT_ERROR, Reason.HTTP_SERVER_ERROR),
    *(Reason.PROXY_FAILED, Reason.PROXY_LOGIN_REFUSED, Reason.PROXY_REFUSED),
    *(Reason.RATE_LIMITED, Reason.TOO_MANY_REDIRECTS, Reason.BODY_TOO_LARGE, Reason.MALFORMED_RESPONSE),
    Reason.CREDENTIALS_REFUSED,
)

# The event of a Redis key that a reaper repaired.
DAMAGED_KEY = "damaged_key"

# Otherwise each counter and histogram has an additional series, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left this one without types

REGISTRY = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_OURS: dict[str, Any] = {"namespace": "decoder", "registry": REGISTRY}

# Missions that ended in this worker: succeeded, failed or dead, and why ("" for a success).
MISSIONS = Counter("missions", "Missions that ended", ["outcome", "reason"], **_OURS)
# The same by the allowlist entry that allows the host, without its port: shows which entries yield nothing, and which fail. The entry
# is "" if no entry allows the host, or if it is unknown: the mission died without a worker.
ENTRY_MISSIONS = Counter(
    "entry_missions", "Missions that ended, by allowlist entry", ["allowed_by", "outcome"], **_OURS
)
# From the claim to the commit of the attempt that ended a mission.
MISSION_DURATION = Histogram(
    "mission_duration_seconds", "Time from a mission's last claim to its end", buckets=DURATION_BUCKETS, **_OURS
)
# The submitter's view: waiting, retries and work together.
MISSION_AGE = Histogram(
    "mission_age_seconds", "Time from a mission's enqueueing to its end", buckets=AGE_BUCKETS, **_OURS
)
# Where the time of an attempt goes.
PHASE_DURATION = Histogram(
    "phase_duration_seconds", "Time spent in each phase of an attempt", ["phase"], buckets=PHASE_BUCKETS, **_OURS
)
# Each fetch within a mission's attempt: "ok", or the reason of its failure.
FETCH_ATTEMPTS = Counter("fetch_attempts", "Fetch attempts", ["result"], **_OURS)
# On the wire, of documents that arrived completely.
FETCHED_BYTES = Counter("fetched_bytes", "Bytes fetched", **_OURS)
# By detector; never by category, which is data.
SECRETS_EXTRACTED = Counter("secrets_extracted", "Secrets found", ["detector"], **_OURS)
# Sealed size of stored results: those of the last `DECODER_RESULT_TTL` are in Redis.
RESULT_BYTES = Counter("result_bytes", "Bytes of results that were stored", **_OURS)
# Counted as successes. If every mission is empty, something upstream has changed.
EMPTY_MISSIONS = Counter("empty_missions", "Missions that succeeded without a secret", **_OURS)
# The limit that ended a document's search early: its mission succeeded, and its result is not complete.
INCOMPLETE = Counter("incomplete_searches", "Documents that were not searched to the end", ["cut"], **_OURS)
# Cached rules cost nothing; without the cache, each start compiles them for seconds.
RULES_CACHED = Gauge("rules_cached", "Whether a detector's compiled rules came from the cache", ["detector"], **_OURS)
# Refusals by policy and malformed input: a spike suggests an attack.
SECURITY_EVENTS = Counter("security_events", "Refusals that may mean an attack", ["event"], **_OURS)
# Key files that became invalid or missing while the worker runs: their last valid keys stay in use.
BAD_RECIPIENTS = Gauge("bad_recipients", "Recipients whose key file is currently unreadable", **_OURS)
# The credentials file became invalid or missing while the worker runs: its last valid content stays in use.
BAD_CREDENTIALS = Gauge("bad_credentials", "Whether the credentials file is currently unusable", **_OURS)
# Attempts in progress in this worker.
MISSIONS_IN_PROGRESS = Gauge("missions_in_progress", "Missions in progress", **_OURS)
# The limits of the process, to compare with its usage.
CPU_LIMIT = Gauge("cpu_limit_cores", "Cores that this worker may use", **_OURS)
MEMORY_LIMIT = Gauge("memory_limit_bytes", "Memory that this worker may use", **_OURS)
# Claims beyond a mission's first: lost workers, lost messages, retries.
REDELIVERIES = Counter("redeliveries", "Claims of missions that had been tried before", **_OURS)
# Which release runs: decoder_build_info{version,commit} 1.
BUILD = Info("build", "Version and commit of this worker", **_OURS)
BUILD.info({"version": VERSION, "commit": COMMIT})


# Metrics of the ledger and its server, once `LEDGER.read` is set: see `worker.observe.collectors`.
LEDGER = LedgerCollector()
REGISTRY.register(LEDGER)
REGISTRY.register(NetworkCollector())


def start_entries(entries: Iterable[str]) -> None:
    """Start the series of these allowlist entries, and of hosts that no entry allows, at zero."""
    for entry in ("", *entries):
        for outcome in ENTRY_OUTCOMES:
            ENTRY_MISSIONS.labels(entry, outcome)


def _start_at_zero() -> None:
    for phase in PHASES:
        PHASE_DURATION.labels(phase)
    for result in ("ok", *(reason.value for reason in _FETCH_REASONS)):
        FETCH_ATTEMPTS.labels(result)
    for detector in DETECTORS:
        SECRETS_EXTRACTED.labels(detector)
    for cut in Cut:
        INCOMPLETE.labels(cut.value)
    for event in (*(reason for reason in Reason if reason.policy_refusal), Reason.MALFORMED_MESSAGE, DAMAGED_KEY):
        SECURITY_EVENTS.labels(event)
    start_entries(())


_start_at_zero()
