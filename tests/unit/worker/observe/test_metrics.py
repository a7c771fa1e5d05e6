"""The catalogue, scraped over real HTTP, and the numbers that come from the ledger."""

import urllib.request
from collections.abc import Iterator
from itertools import pairwise

import pytest
from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from mission.errors import LedgerUnavailable
from mission.model import Priority, Reason, State, Stats
from mission.store.server import Condition
from mission.version import VERSION
from worker.costs import MODEL
from worker.observe import metrics
from worker.observe.collectors import LedgerCollector, Vitals
from worker.observe.scrapes import serve
from worker.work import endings

STATS = Stats(5, 2, 1, 7, 3, 4, 6, oldest_seconds=12.5, queued_high=1, queued_normal=0, queued_low=4)
WAITS = {Priority.HIGH: 0.5, Priority.NORMAL: 0.0, Priority.LOW: 12.5}
SERVER = Condition(
    10, 100, evicts=False, aof_written=True, replicas=1, replica_lag=0.0, certificate_end=1_800_000_000.0
)
KEYS = {("url", "00c0ffee"): 1_700_000_000.0}
VITALS = Vitals(STATS, {}, SERVER, KEYS, damaged=6, audit_bytes=1234, outcomes_bytes=99, waits=WAITS)

# The names that dashboards and alerts use.
CATALOGUE = {
    "decoder_missions": "counter",
    "decoder_mission_duration_seconds": "histogram",
    "decoder_mission_age_seconds": "histogram",
    "decoder_phase_duration_seconds": "histogram",
    "decoder_fetch_attempts": "counter",
    "decoder_fetched_bytes": "counter",
    "decoder_secrets_extracted": "counter",
    "decoder_result_bytes": "counter",
    "decoder_cpu_limit_cores": "gauge",
    "decoder_memory_limit_bytes": "gauge",
    "decoder_redis_contents_bytes": "gauge",
    "decoder_empty_missions": "counter",
    "decoder_entry_missions": "counter",
    "decoder_incomplete_searches": "counter",
    "decoder_rules_cached": "gauge",
    "decoder_security_events": "counter",
    "decoder_bad_recipients": "gauge",
    "decoder_bad_credentials": "gauge",
    "decoder_missions_in_progress": "gauge",
    "decoder_redeliveries": "counter",
    "decoder_build_info": "gauge",
    "decoder_redis_up": "gauge",
    "decoder_queue_missions": "gauge",
    "decoder_oldest_queued_seconds": "gauge",
    "decoder_queued_missions": "gauge",
    "decoder_queued_wait_seconds": "gauge",
    "decoder_dead_letters": "gauge",
    "decoder_admission_refusals": "counter",
    "decoder_redis_memory_used_bytes": "gauge",
    "decoder_redis_memory_max_bytes": "gauge",
    "decoder_redis_evicts": "gauge",
    "decoder_redis_aof_written": "gauge",
    "decoder_redis_replicas": "gauge",
    "decoder_redis_replica_lag_seconds": "gauge",
    "decoder_redis_certificate_expiry_timestamp_seconds": "gauge",
    "decoder_key_first_used_timestamp_seconds": "gauge",
    "decoder_damaged_missions": "gauge",
    "decoder_network_received_bytes": "counter",
    "decoder_network_sent_bytes": "counter",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server, port = serve(0, "127.0.0.1")
    yield port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _fresh_ledger_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.LEDGER, "_until", 0.0)
    monkeypatch.setattr(metrics.LEDGER, "_metrics", [])
    monkeypatch.setattr(metrics.LEDGER, "read", None)


def scrape(port: int) -> dict[str, Metric]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def samples(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_a_scrape_yields_the_whole_catalogue_and_the_process(port: int) -> None:
    metrics.LEDGER.read = lambda: VITALS
    found = scrape(port)
    assert {name: found[name].type for name in CATALOGUE if name in found} == CATALOGUE
    assert {name for name in found if name.startswith("decoder_")} == set(CATALOGUE)
    assert {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds", "python_info"} <= set(found)
    assert all(family.documentation for family in found.values())


@pytest.mark.parametrize("histogram", [metrics.MISSION_DURATION, metrics.MISSION_AGE])
def test_buckets_resolve_both_sides_of_ten_seconds(histogram: Histogram) -> None:
    bounds = histogram._upper_bounds
    assert 10 in bounds
    assert sum(5 <= bound < 10 for bound in bounds) >= 2
    assert sum(10 < bound <= 60 for bound in bounds) >= 3
    assert all(low < high for low, high in pairwise(bounds))
    assert 24 * 3600 in bounds or histogram is not metrics.MISSION_AGE  # a mission's whole lifetime


def test_series_of_closed_sets_stand_from_the_start(port: int) -> None:
    assert endings  # its import creates the series
    found = scrape(port)
    assert {
        ("succeeded", ""),
        ("failed", "http_client_error"),
        ("failed", "blocked_address"),
        ("failed", "too_many_secrets"),
        ("dead", "attempts_exhausted"),
        ("dead", "expired"),
        ("dead", "read_timeout"),
    } <= set(samples(found["decoder_missions"]))
    assert {("ok",), ("read_timeout",), ("tls_failure",)} <= set(samples(found["decoder_fetch_attempts"]))
    assert {("blocked_address",), ("malformed_message",)} <= set(samples(found["decoder_security_events"]))
    assert ("marker",) in samples(found["decoder_secrets_extracted"])
    assert {sample.labels["phase"] for sample in found["decoder_phase_duration_seconds"].samples} == set(metrics.PHASES)


def test_reasons_in_labels_are_of_the_closed_set(port: int) -> None:
    found = scrape(port)
    reasons = {reason for _, reason in samples(found["decoder_missions"])}
    results = {result for (result,) in samples(found["decoder_fetch_attempts"])}
    assert reasons | results <= {reason.value for reason in Reason} | {"", "ok"}
    # A refusal at admission is not a mission's outcome.
    assert not reasons & {"quota_exceeded", "queue_full", "idempotency_conflict", "malformed_message"}


def test_version_and_commit_are_told(port: int) -> None:
    (sample,) = scrape(port)["decoder_build_info"].samples
    assert sample.labels["version"] == VERSION
    assert "commit" in sample.labels


def test_ledger_numbers_are_those_of_the_ledger(port: int) -> None:
    metrics.LEDGER.read = lambda: Vitals(STATS, {"queue_full": 9})
    found = scrape(port)
    assert samples(found["decoder_queue_missions"]) == {(state.value,): getattr(STATS, state.value) for state in State}
    assert samples(found["decoder_oldest_queued_seconds"]) == {(): 12.5}
    assert samples(found["decoder_dead_letters"]) == {(): 4}
    assert samples(found["decoder_redis_up"]) == {(): 1}
    refusals = samples(found["decoder_admission_refusals"])
    assert refusals[("queue_full",)] == 9
    assert refusals[("quota_exceeded",)] == 0


def test_what_fills_redis_is_told_by_its_kinds(port: int) -> None:
    metrics.LEDGER.read = lambda: VITALS
    one = MODEL.stored
    assert samples(scrape(port)["decoder_redis_contents_bytes"]) == {
        ("unfinished",): 5 * one.queued + 3 * one.leased,
        ("dead",): 4 * one.dead,
        ("audit",): 1234,
        ("outcomes",): 99,
    }


def test_what_waits_is_told_by_priority(port: int) -> None:
    metrics.LEDGER.read = lambda: VITALS
    found = scrape(port)
    assert samples(found["decoder_queued_missions"]) == {("high",): 1, ("normal",): 0, ("low",): 4}
    assert samples(found["decoder_queued_wait_seconds"]) == {("high",): 0.5, ("normal",): 0, ("low",): 12.5}


def test_a_reason_that_a_stranger_made_up_is_no_label(port: int) -> None:
    metrics.LEDGER.read = lambda: Vitals(STATS, {"https://secret.example/": 1})
    reasons = {reason for (reason,) in samples(scrape(port)["decoder_admission_refusals"])}
    assert reasons <= {reason.value for reason in Reason}


def test_without_the_ledger_its_samples_are_absent_and_redis_is_down(port: int) -> None:
    def away() -> Vitals:
        raise LedgerUnavailable("gone")

    metrics.LEDGER.read = away
    found = scrape(port)
    assert samples(found["decoder_redis_up"]) == {(): 0}
    assert "decoder_queue_missions" not in found
    assert "decoder_missions" in found


def test_before_a_worker_has_a_ledger_nothing_is_said_of_it(port: int) -> None:
    assert "decoder_redis_up" not in scrape(port)


def test_scrapes_close_together_read_the_ledger_once() -> None:
    reads = []

    def read() -> Vitals:
        reads.append(1)
        return Vitals(STATS, {})

    collector = LedgerCollector()
    collector.read = read
    first = list(collector.collect())
    collector._until += 3600  # however busy this machine is
    assert list(collector.collect()) == first
    assert len(reads) == 1
    collector._until = 0.0
    list(collector.collect())
    assert len(reads) == 2
