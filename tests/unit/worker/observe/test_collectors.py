"""The values that a scrape reads: of the ledger, of its server, of the system."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client.core import Metric
from redis.exceptions import ResponseError

from mission.errors import LedgerUnavailable
from mission.model import Stats
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.server import Server
from tests.conftest import wait_for
from worker.observe import collectors
from worker.observe.collectors import LedgerCollector, NetworkCollector, Vitals, read_vitals
from worker.settings import WorkerSettings

STATS = Stats(queued=5, running=2, retrying=1, succeeded=7, failed=3, dead=4, cancelled=6, oldest_seconds=12.5)
KEYS = [("url", "00c0ffee"), ("recipient", "0123456789abcdef")]


def collected(vitals: Vitals) -> dict[str, Metric]:
    collector = LedgerCollector()
    collector.read = lambda: vitals
    return {metric.name: metric for metric in collector.collect()}


@pytest.fixture
def narrow_ledger(client: redis.Redis, settings: WorkerSettings) -> Iterator[Ledger]:
    """The ledger with a login that may read the counts, but neither INFO nor the keys' ages."""
    client.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "~{decoder}:[^k]*", "+@all", "-info")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    host = settings.redis_url.get_secret_value().rpartition("@")[2]
    with connect(WorkerSettings.from_env(redis_url=f"redis://narrow:narrow@{host}")) as narrow:
        yield Ledger(narrow, settings)
    client.acl_deluser("narrow")


def test_a_key_is_as_old_as_its_first_use_here(ledger: Ledger) -> None:
    before = time.time()
    first = ledger.keys_seen(KEYS)
    assert set(first) == set(KEYS)
    assert all(before - 2 <= moment <= time.time() + 2 for moment in first.values())
    ledger.client.hset("{decoder}:keys", "url:00c0ffee", "1000")
    again = ledger.keys_seen([*KEYS, ("url", "new")])
    assert again[KEYS[0]] == 1000
    assert again[KEYS[1]] == first[KEYS[1]]
    assert again["url", "new"] >= first[KEYS[1]]


@pytest.mark.server("INFO")
def test_memory_and_keys_are_exported(ledger: Ledger) -> None:
    ledger.client.config_set("maxmemory", "200mb")
    try:
        found = collected(read_vitals(ledger, Server(ledger.client), KEYS))
    finally:
        ledger.client.config_set("maxmemory", "0")
    assert found["decoder_redis_memory_max_bytes"].samples[0].value == 200 * 1024 * 1024
    assert 0 < found["decoder_redis_memory_used_bytes"].samples[0].value < 200 * 1024 * 1024
    labels = {
        (sample.labels["kind"], sample.labels["key"])
        for sample in found["decoder_key_first_used_timestamp_seconds"].samples
    }
    assert labels == set(KEYS)


@pytest.mark.server("another login")
def test_a_login_that_may_not_see_memory_or_keys_still_tells_the_counts(narrow_ledger: Ledger) -> None:
    server = Server(narrow_ledger.client)
    with pytest.raises(LedgerUnavailable):
        server.condition()
    found = collected(read_vitals(narrow_ledger, server, KEYS))
    assert found["decoder_redis_up"].samples[0].value == 1
    assert "decoder_queue_missions" in found
    assert "decoder_redis_memory_used_bytes" not in found
    assert "decoder_key_first_used_timestamp_seconds" not in found


def test_a_scrape_does_not_wait_for_a_ledger_that_hangs_and_asks_it_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collectors, "CACHE_SECONDS", 0.0)
    answer, asked = threading.Event(), []

    def read() -> Vitals:
        asked.append(time.monotonic())
        assert answer.wait(60)
        return Vitals(STATS, {})

    collector = LedgerCollector(patience=0.05)
    collector.read = read
    for _ in range(3):
        (up,) = collector.collect()
        assert (up.name, up.samples[0].value) == ("decoder_redis_up", 0)
    assert len(asked) == 1
    answer.set()
    wait_for(lambda: len(list(collector.collect())) > 1, what="the ledger's numbers")


def test_no_keys_ask_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ResponseError("asked")

    monkeypatch.setattr(ledger.client, "hmget", refuse)
    assert ledger.keys_seen([]) == {}


def test_network_traffic_is_that_of_all_interfaces_but_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "dev"
    table.write_text(
        "Inter-|   Receive                          |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n"
        "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
        "  eth0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"
        "  eth1:  20 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n"
    )
    monkeypatch.setattr(collectors, "_NETWORK", table)
    found = {metric.name: metric.samples[0].value for metric in NetworkCollector().collect()}
    assert found == {"decoder_network_received_bytes": 120, "decoder_network_sent_bytes": 10}


def test_a_system_without_such_a_table_has_no_traffic_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectors, "_NETWORK", tmp_path / "none")
    assert list(NetworkCollector().collect()) == []
