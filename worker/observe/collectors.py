"""Metrics that are read at each scrape: the ledger's numbers, its server's condition, the keys' ages, network traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mission.errors import DecoderError, LedgerUnavailable
from mission.model import Priority, Reason, State, Stats
from mission.store.ledger import Ledger
from mission.store.names import Key
from mission.store.server import Condition, Server
from worker.costs import MODEL

CACHE_SECONDS = 1.0
# Well within Prometheus' 10 s for a scrape, whatever DECODER_REDIS_TIMEOUT and the number of sentinels are.
PATIENCE_SECONDS = 4.0
# Reasons for a refusal at admission, before a mission exists.
AT_ADMISSION = (
    *(Reason.QUOTA_EXCEEDED, Reason.STORED_QUOTA_EXCEEDED),
    *(Reason.QUEUE_FULL, Reason.IDEMPOTENCY_CONFLICT),
)
_REFUSALS = (Reason.INVALID_URL, Reason.CREDENTIALS_IN_URL, *AT_ADMISSION)
_NETWORK = Path("/proc/self/net/dev")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a scrape reads from the ledger.

    Args:
        stats: missions by state.
        refusals: missions refused at admission since the ledger began, by reason.
        server: the server's condition; None if this login may not read it.
        keys: kind and id of each key in use, to the time of its first use, in seconds since the epoch.
        waits: wait of the first mission of each priority, in seconds; None if this login may not read it.
        damaged: number of missions with an entry that no release could have written.
        audit_bytes: memory of both chains of the audit, in bytes.
        outcomes_bytes: memory of the stream of outcomes, in bytes.
    """

    stats: Stats
    refusals: Mapping[str, int]
    server: Condition | None = None
    keys: Mapping[tuple[str, str], float] | None = None
    damaged: int | None = None
    audit_bytes: int | None = None
    waits: Mapping[Priority, float] | None = None
    outcomes_bytes: int | None = None


def read_vitals(ledger: Ledger, server: Server, keys: Iterable[tuple[str, str]]) -> Vitals:
    """Read the vitals from the ledger and its server.

    Args:
        ledger: the ledger to read.
        server: its server.
        keys: kind and id of each key in use.

    Raises:
        LedgerUnavailable: Redis does not answer. Values that the login may not read are None instead.
    """
    stats, refusals = ledger.stats(), ledger.refusals()
    condition, seen, damaged, audit, waits, outcomes = None, None, None, None, None, None
    with suppress(LedgerUnavailable):
        condition = server.condition()
    with suppress(LedgerUnavailable):
        seen = ledger.keys_seen(keys)
    with suppress(LedgerUnavailable):
        damaged = ledger.damaged()
    with suppress(LedgerUnavailable):
        audit = server.size_of(Key.AUDIT, Key.AUDIT_KEYS)
        outcomes = server.size_of(Key.OUTCOMES)
    with suppress(LedgerUnavailable):
        waits = ledger.waits()
    return Vitals(stats, refusals, condition, seen, damaged, audit, waits, outcomes)


class LedgerCollector(Collector):
    """The ledger's metrics, read at a scrape, at most once a second.

    Every worker reports the same values: take the `max` over workers, never the sum. If the ledger does not answer within
    `patience` seconds, its samples are absent and `decoder_redis_up` is 0; the scrape itself goes on. `read` queries it, and
    may raise `DecoderError`.
    """

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self.read: Callable[[], Vitals] | None = None
        self._patience = patience
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="vitals")
        self._reading: Future[Vitals] | None = None
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._until = 0.0

    def collect(self) -> Iterable[Metric]:
        """The metrics, at most a second old; none before there is a ledger to read."""
        with self._lock:
            if self.read is not None and time.monotonic() >= self._until:
                self._metrics = list(_ledger_metrics(self._vitals(self.read)))
                self._until = time.monotonic() + CACHE_SECONDS
            return self._metrics

    def _vitals(self, read: Callable[[], Vitals]) -> Vitals | None:
        # Only one read runs at a time: a scrape waits for the read that an earlier one gave up on. A finished read is too old.
        if self._reading is None or self._reading.done():
            self._reading = self._reader.submit(read)
        try:
            return self._reading.result(self._patience)
        except (DecoderError, TimeoutError):
            return None


def _ledger_metrics(vitals: Vitals | None) -> Iterable[Metric]:
    yield GaugeMetricFamily("decoder_redis_up", "Whether the ledger answers", int(vitals is not None))
    if vitals is None:
        return
    stats = vitals.stats
    states = GaugeMetricFamily("decoder_queue_missions", "Missions in the ledger by state", labels=["state"])
    for state in State:
        states.add_metric([state.value], getattr(stats, state.value))
    yield states
    queued = GaugeMetricFamily(
        "decoder_queued_missions", "Missions waiting for a worker, by priority", labels=["priority"]
    )
    for priority in Priority:
        queued.add_metric([priority.value], getattr(stats, f"queued_{priority.value}"))
    yield queued
    if vitals.waits is not None:
        waits = GaugeMetricFamily(
            "decoder_queued_wait_seconds",
            "Wait of the first mission in the queue, by priority",
            labels=["priority"],
        )
        for priority, seconds in vitals.waits.items():
            waits.add_metric([priority.value], seconds)
        yield waits
    yield GaugeMetricFamily(
        "decoder_oldest_queued_seconds", "Age of the oldest mission that has not ended", stats.oldest_seconds
    )
    yield GaugeMetricFamily("decoder_dead_letters", "Missions in the dead letters", stats.dead)
    refusals = CounterMetricFamily(
        "decoder_admission_refusals", "Missions refused at admission, by all producers", labels=["reason"]
    )
    # The ledger's field names come from producers, so only reasons of the closed set become labels.
    for reason in Reason:
        if reason.value in vitals.refusals or reason in _REFUSALS:
            refusals.add_metric([reason.value], vitals.refusals.get(reason.value, 0))
    yield refusals
    yield _contents(stats, {"audit": vitals.audit_bytes, "outcomes": vitals.outcomes_bytes})
    if vitals.server is not None:
        yield from _server_metrics(vitals.server)
    if vitals.keys is not None:
        seen = GaugeMetricFamily(
            "decoder_key_first_used_timestamp_seconds", "When a key in use was first used", labels=["kind", "key"]
        )
        for (kind, key), moment in vitals.keys.items():
            seen.add_metric([kind, key], moment)
        yield seen
    if vitals.damaged is not None:
        yield GaugeMetricFamily(
            "decoder_damaged_missions", "Missions with an entry that no release could have written", vitals.damaged
        )


def _contents(stats: Stats, weighed: Mapping[str, int | None]) -> Metric:
    """Bytes in Redis: for missions their number times the measured size of one; for streams the size that the server reports."""
    one = MODEL.stored
    family = GaugeMetricFamily("decoder_redis_contents_bytes", "What fills Redis", labels=["what"])
    family.add_metric(["unfinished"], stats.queued * one.queued + (stats.running + stats.retrying) * one.leased)
    family.add_metric(["dead"], stats.dead * one.dead)
    for what, size in weighed.items():
        if size is not None:
            family.add_metric([what], size)
    return family


def _server_metrics(server: Condition) -> Iterable[Metric]:
    numbers: dict[str, tuple[str, float | None]] = {
        "memory_used_bytes": ("Memory that Redis uses", server.memory_used),
        "memory_max_bytes": ("Memory that Redis may use, 0 without a limit", server.memory_limit),
        "evicts": ("Whether a full Redis would delete missions", server.evicts),
        "aof_written": ("Whether the AOF is on and its last write went well", server.aof_written),
        "replicas": ("Replicas of Redis that are connected and in step", server.replicas),
        "replica_lag_seconds": ("Time since the slowest replica reported its offset", server.replica_lag),
        "certificate_expiry_timestamp_seconds": ("When Redis' certificate expires", server.certificate_end),
    }
    for name, (text, value) in numbers.items():
        if value is not None:
            yield GaugeMetricFamily(f"decoder_redis_{name}", text, float(value))


class NetworkCollector(Collector):
    """Bytes over all interfaces except loopback; in a pod, those of the pod. Only on Linux (proc(5))."""

    def collect(self) -> Iterable[Metric]:
        """Both directions since the interfaces came up."""
        try:
            lines = _NETWORK.read_text().splitlines()[2:]
        except OSError:
            return
        counts = [rest.split() for name, _, rest in (line.partition(":") for line in lines) if name.strip() != "lo"]
        received, sent = (sum(int(fields[column]) for fields in counts) for column in (0, 8))
        yield CounterMetricFamily("decoder_network_received_bytes", "Bytes received, without loopback", received)
        yield CounterMetricFamily("decoder_network_sent_bytes", "Bytes sent, without loopback", sent)
