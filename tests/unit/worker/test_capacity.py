"""The capacity model: its costs add up, more work never costs less, and it reports the exceeded limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.capacity import GIB, LEAST_PODS, POD_REQUEST_CORES, POD_REQUEST_MIB, Load, Plan, plan
from worker.costs import Cost, Model, Stored
from worker.settings import WorkerSettings

CHART = Path(__file__).resolve().parents[3] / "helm" / "decoder" / "values.yaml"
SETTINGS = WorkerSettings.model_construct()
MODEL = Model(
    mission=Cost(1.0, 100.0, 10.0, 500.0, 300.0),
    document_kb=Cost(0.01),
    record=Cost(0.5, 20.0, 2.0, 1000.0, 10.0),
    secret=Cost(redis_in_bytes=100.0),
    waiting_second=Cost(50.0, 5000.0),
    alone=Cost(0.25, 60.0),
    alone_waiting=Cost(0.75, 80.0),
    slot_ms=20.0,
    stored=Stored(
        queued=1000.0,
        leased=900.0,
        finished=300.0,
        dead=1100.0,
        record=1300.0,
        secret=100.0,
        audit_entry=500.0,
        outcome=100.0,
    ),
)
LOAD = Load(
    missions_per_day=86_400_000.0,
    document_kb=50.0,
    latency_seconds=0.3,
    peak=2.0,
    share_with_secrets=0.5,
    secrets_per_document=4.0,
    share_dead=0.1,
    reads_per_day=1000.0,
    alone=True,
    redis_memory_bytes=64.0 * GIB,
    network_mbit=10_000.0,
)


def planned(**load: Any) -> Plan:
    return plan(replace(LOAD, **load), SETTINGS, MODEL)


def test_a_process_that_waits_does_what_its_slots_let_through() -> None:
    found = planned()
    assert found.missions_per_second == 1000
    assert found.process_missions_per_second == found.slots_missions_per_second == 1000 * 32 / 320
    assert found.pods == 25, "2,000/s at the peak, 80 of the 100/s of each"
    assert found.cost.worker_ms == 1.0 + 50 * 0.01 + 0.5 * 0.5 + 0.5 + 0.75
    assert found.worker_cores_peak == 2 * found.cost.worker_ms


def test_slower_servers_leave_a_worker_no_more_to_do_than_a_lot_for_each_mission() -> None:
    one, other = planned(latency_seconds=1.0), planned(latency_seconds=10.0)
    assert one.cost == other.cost
    assert one.pods < other.pods


def test_a_process_whose_servers_are_fast_does_what_a_core_does() -> None:
    found = planned(latency_seconds=0.005, alone=False)
    assert found.process_missions_per_second == found.core_missions_per_second == pytest.approx(1000 / 1.75)
    assert found.cost.worker_ms == 1.75


def test_redis_holds_a_full_queue_and_what_the_retentions_keep() -> None:
    settings = SETTINGS.model_copy(update={"queue_limit": 10, "ledger_ttl": 172_800.0, "result_ttl": 86_400.0})
    found = plan(replace(LOAD, missions_per_day=1000), settings, MODEL)
    assert found.redis_bytes == {
        "queue": 10_000,
        "finished": 900 * 2 * 300,
        "dead": 100 * 2 * 1100,
        "results": 500 * (1300 + 4 * 100),
        "audit": 1000 * 365 * 500,
        "outcomes": 1000 * 2 * 100,
    }
    assert plan(LOAD, settings, MODEL).redis_bytes["outcomes"] == 1_000_000 * 100, "no more are kept"


def test_what_is_needed_the_most_of_breaks_first_and_so_many_releases_end_it() -> None:
    found = planned(redis_memory_bytes=1e6 * GIB, missions_per_day=10 * LOAD.missions_per_day)
    assert found.first.name == "Redis' one thread"
    assert found.first.needed == pytest.approx(100 * 20_000 * (100 + 0.5 * 20 + 50 + 80) / 1e6)
    assert found.releases == 6, "480 % of a thread, 80 % of each"
    assert "6 releases" in found.first.then


def test_releases_do_not_help_where_the_network_to_the_sites_breaks() -> None:
    found = planned(redis_memory_bytes=1e6 * GIB, document_kb=5000.0)
    assert found.first.name == "the network to the sites"
    assert "over 11 such links" in found.first.then, "80 Gbit/s, 8 of each"
    assert found.releases == 1


@given(st.floats(1, 1e9), st.floats(1, 1e9))
def test_more_missions_never_take_less(one: float, other: float) -> None:
    fewer, more = (planned(missions_per_day=count) for count in sorted((one, other)))
    assert LEAST_PODS <= fewer.pods <= more.pods
    assert fewer.releases <= more.releases
    for figure in ("worker_cores_peak", "redis_thread_peak", "redis_memory_bytes", "redis_in_mbit_peak"):
        assert getattr(fewer, figure) <= getattr(more, figure), figure


@pytest.mark.parametrize(
    ("field", "more"),
    [("document_kb", 500.0), ("latency_seconds", 3.0), ("peak", 5.0), ("share_with_secrets", 1.0)],
)
def test_harder_missions_never_take_fewer_pods(field: str, more: float) -> None:
    assert planned(**{field: more}).pods >= planned().pods
    assert planned(**{field: more}).worker_cores_peak >= planned().worker_cores_peak


def test_defaults_that_are_too_small_are_told() -> None:
    queue, quota = planned().advice[-2:]
    assert queue.startswith("The queue reaches DECODER_QUEUE_LIMIT 16.7 minutes after")
    assert "needs 3,600,000 missions, 3.4 GiB" in queue
    assert quota.startswith("One submitter may store 128MiB of results")
    assert planned(missions_per_day=100).advice == ()


def test_a_pod_that_takes_more_than_it_requests_is_told() -> None:
    assert planned(latency_seconds=0.0).advice[0].startswith("A pod uses 0.")


def test_the_pods_are_those_of_the_chart() -> None:
    requests = yaml.safe_load(CHART.read_text())["worker"]["resources"]["requests"]
    assert requests["cpu"] == f"{1000 * POD_REQUEST_CORES:.0f}m"
    assert requests["memory"] == f"{POD_REQUEST_MIB}Mi"
