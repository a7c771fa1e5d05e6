"""The capacity plan for a daily load: worker processes, Redis' thread and memory, network, and the first limit.

It uses the measured costs of `worker.costs`. `decoder capacity` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mission.store.library import MOST_OUTCOMES
from mission.units import format_size
from worker.costs import MODEL, Cost, Model, Stored
from worker.settings import WorkerSettings

DAY_SECONDS = 86400.0
GIB = 1024**3
# The plan uses this share of what a process, a link or Redis' thread can do: beyond it, waiting times grow quickly.
PLANNED_SHARE = 0.8
# The chart's defaults for a worker's pod, which runs one process.
POD_REQUEST_CORES = 0.25
POD_REQUEST_MIB = 256
LEAST_PODS = 2
# Size of a request and of a response's head, in addition to the document. Assumed, not measured: sites differ.
REQUEST_BYTES, HEAD_BYTES = 300, 700
# The queue should hold the missions that arrive in this time while no worker runs.
QUEUE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Load:
    """The expected load. Shares are of all missions; sizes in KB (1,000 bytes) and bytes, times in seconds."""

    missions_per_day: float
    document_kb: float
    latency_seconds: float
    peak: float
    share_with_secrets: float
    secrets_per_document: float
    share_dead: float
    reads_per_day: float
    alone: bool
    redis_memory_bytes: float
    network_mbit: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A resource that can run out: the need at the peak, the maximum, and the remedy.

    `by_releases`: several releases side by side help, since each brings its own.
    """

    name: str
    needed: float
    most: float
    unit: str
    remedy: str
    by_releases: bool = True

    @property
    def share(self) -> float:
        """The need as a share of the maximum; more than 1 if it runs out."""
        return self.needed / self.most

    @property
    def then(self) -> str:
        """The remedy, with the number filled in."""
        return self.remedy.format(math.ceil(self.share))


_SIDE_BY_SIDE = "run {} releases side by side, each with its Redis; the producer chooses one for each mission"


@dataclass(frozen=True, slots=True)
class Plan:
    """The resources that a load needs; `_peak` values are for the busiest hour, the others for the day's mean."""

    missions_per_second: float
    missions_per_second_peak: float
    process_missions_per_second: float
    core_missions_per_second: float
    slots_missions_per_second: float
    pods: int
    worker_cores_peak: float
    pod_cores_peak: float
    requested_cores: float
    requested_memory_mib: float
    redis_thread: float
    redis_thread_peak: float
    redis_commands_per_second_peak: float
    redis_bytes: Mapping[str, float]
    redis_in_mbit_peak: float
    redis_out_mbit_peak: float
    sites_in_mbit_peak: float
    sites_out_mbit_peak: float
    cost: Cost
    limits: tuple[Limit, ...]
    advice: tuple[str, ...]

    @property
    def redis_memory_bytes(self) -> float:
        """Redis' total memory."""
        return sum(self.redis_bytes.values())

    @property
    def first(self) -> Limit:
        """The limit that the load reaches first."""
        return max(self.limits, key=lambda limit: limit.share)

    @property
    def releases(self) -> int:
        """The number of releases, each with its Redis, that keeps the load below all limits."""
        return max(math.ceil(limit.share) for limit in self.limits if limit.by_releases)


def plan(load: Load, settings: WorkerSettings, model: Model = MODEL) -> Plan:
    """Plan a load with the concurrency, retention times and queue limit of these settings."""
    mean = load.missions_per_day / DAY_SECONDS
    peak = mean * load.peak
    slots = settings.concurrency, 1000 * load.latency_seconds
    of_slots, waiting = model.of_slots(*slots), model.waiting(*slots)
    parts = {
        "document_kb": load.document_kb,
        "records": load.share_with_secrets,
        "secrets": load.share_with_secrets * load.secrets_per_document,
        "alone": float(load.alone),
    }
    of_core = 1000 / model.cost(**parts).worker_ms
    of_process = min(of_slots, of_core)
    cost = model.cost(**parts, waiting_seconds=waiting if of_slots < of_core else 0.0)
    pods = max(LEAST_PODS, math.ceil(peak / (PLANNED_SHARE * of_process)))
    cores = peak * cost.worker_ms / 1000
    stored = _stored(load, settings, model.stored)
    document_bytes = 1000 * load.document_kb
    redis_in, redis_out, sites_in, sites_out = (
        8e-6 * peak * size
        for size in (cost.redis_in_bytes, cost.redis_out_bytes, document_bytes + HEAD_BYTES, REQUEST_BYTES)
    )
    thread = cost.redis_us / 1e6
    return Plan(
        missions_per_second=mean,
        missions_per_second_peak=peak,
        process_missions_per_second=of_process,
        core_missions_per_second=of_core,
        slots_missions_per_second=of_slots,
        pods=pods,
        worker_cores_peak=cores,
        pod_cores_peak=cores / pods,
        requested_cores=pods * POD_REQUEST_CORES,
        requested_memory_mib=pods * POD_REQUEST_MIB,
        redis_thread=mean * thread,
        redis_thread_peak=peak * thread,
        redis_commands_per_second_peak=peak * cost.redis_commands,
        redis_bytes=stored,
        redis_in_mbit_peak=redis_in,
        redis_out_mbit_peak=redis_out,
        sites_in_mbit_peak=sites_in,
        sites_out_mbit_peak=sites_out,
        cost=cost,
        limits=(
            Limit("Redis' one thread", 100 * peak * thread, 100 * PLANNED_SHARE, "%", _SIDE_BY_SIDE),
            Limit(
                "Redis' memory",
                sum(stored.values()) / GIB,
                load.redis_memory_bytes / GIB,
                "GiB",
                "shorten DECODER_LEDGER_TTL and DECODER_RESULT_TTL, or " + _SIDE_BY_SIDE,
            ),
            Limit(
                "Redis' network", max(redis_in, redis_out), PLANNED_SHARE * load.network_mbit, "Mbit/s", _SIDE_BY_SIDE
            ),
            Limit(
                "the network to the sites",
                sites_in,
                PLANNED_SHARE * load.network_mbit,
                "Mbit/s",
                "spread the workers over {} such links (zones, gateways)",
                by_releases=False,
            ),
        ),
        advice=tuple(_advice(mean, cores / pods, stored, settings, model)),
    )


def _advice(
    mean: float, pod_cores: float, stored: Mapping[str, float], settings: WorkerSettings, model: Model
) -> Iterator[str]:
    """Name the defaults that are too small for the load."""
    if pod_cores > POD_REQUEST_CORES:
        yield f"A pod uses {pod_cores:.2f} cores at the peak but requests {POD_REQUEST_CORES}: raise worker.resources.requests.cpu."
    if (wanted := mean * QUEUE_SECONDS) > settings.queue_limit:
        size = wanted * model.stored.queued / GIB
        yield (
            f"The queue reaches DECODER_QUEUE_LIMIT {settings.queue_limit / mean / 60:,.1f} minutes after the workers stop; "
            f"an hour needs {wanted:,.0f} missions, {size:,.1f} GiB."
        )
    if settings.stored_quota and stored["results"] > settings.stored_quota:
        yield (
            f"One submitter may store {format_size(settings.stored_quota)} of results: this load needs "
            f"{math.ceil(stored['results'] / settings.stored_quota):,} submitters, or a larger DECODER_STORED_QUOTA."
        )


def _stored(load: Load, settings: WorkerSettings, stored: Stored) -> dict[str, float]:
    """Bytes in Redis by kind of record, with a full queue and everything else kept for its retention time."""
    per_day = load.missions_per_day
    finished_days, result_days, audit_days = (
        seconds / DAY_SECONDS for seconds in (settings.ledger_ttl, settings.result_ttl, settings.audit_ttl)
    )
    record = stored.record + stored.secret * load.secrets_per_document
    return {
        "queue": settings.queue_limit * max(stored.queued, stored.leased),
        "finished": per_day * (1 - load.share_dead) * finished_days * stored.finished,
        "dead": per_day * load.share_dead * finished_days * stored.dead,
        "results": per_day * load.share_with_secrets * result_days * record,
        "audit": load.reads_per_day * audit_days * stored.audit_entry,
        "outcomes": min(per_day * finished_days, MOST_OUTCOMES) * stored.outcome,
    }
