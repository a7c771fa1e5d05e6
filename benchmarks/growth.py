"""The cost of a mission as their number grows: `python -m benchmarks.growth`.

It measures missions behind backlogs of several lengths, their bytes in Redis by state, and a worker's memory after many missions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import median

import click
import redis

from benchmarks.measure import measure
from benchmarks.systems import Decoder, Place
from benchmarks.throughput import bench_place
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from mission.model import State
from mission.settings import Settings
from mission.store.changes import Commit
from mission.store.ledger import Ledger
from producer import MissionClient
from worker.local.stack import ending_on_signals

BACKLOGS = (1_000, 100_000, 1_000_000)
# Missions of each backlog that are timed. A short backlog is timed in full, several times.
TIMED = 10_000
STORED = 20_000
STATS = 200
_CHUNK = 512


class Counted(Decoder):
    """The decoder; it times `stats` on the backlog while the workers are paused."""

    def enqueue(self, urls: Iterable[str]) -> None:
        """Give it work."""
        super().enqueue(urls)
        times = []
        for _ in range(STATS):
            began = time.perf_counter()
            self.client.stats()
            times.append(time.perf_counter() - began)
        self.stats_ms = 1000 * median(times)


def of_backlogs(place: Place, client: redis.Redis, backlogs: Sequence[int]) -> Iterator[tuple[int, dict[str, float]]]:
    """For each length: missions per second, the workers' CPU ms per mission, and ms per call of `stats`."""
    for backlog in backlogs:
        rounds = max(1, TIMED // backlog)
        samples, stats_ms = [], []
        for _ in range(rounds):
            client.flushall()
            system = Counted(place, bulk=True)
            samples.append(measure(system, place.urls(backlog), backlog=True, expected=min(backlog, TIMED)))
            stats_ms.append(system.stats_ms)
        missions = sum(sample.missions for sample in samples)
        yield (
            backlog,
            {
                "missions_per_second": missions / sum(sample.seconds for sample in samples),
                "cpu_ms": 1000 * sum(sample.cpu_seconds or 0.0 for sample in samples) / missions,
                "stats_ms": median(stats_ms),
            },
        )


def in_redis(place: Place, client: redis.Redis, settings: Settings) -> tuple[float, float]:
    """Bytes of a queued mission, and of a finished mission without secrets."""
    client.flushall()
    producer, ledger = MissionClient(settings), Ledger(client, settings)
    before = _used(client)
    verdicts = list(producer.enqueue_many(place.urls(STORED)))
    queued = _used(client) - before
    ids = (verdict.id for verdict in verdicts if not isinstance(verdict, DecoderError))
    while some := list(islice(ids, _CHUNK)):
        claims = ledger.claim(len(some), 60.0).claims
        ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0) for claim in claims], 60.0)
    client.delete("missions")
    ended = _used(client) - before
    return queued / STORED, ended / STORED


def _used(client: redis.Redis) -> int:
    """Bytes of the stored data, without buffers, once Redis has finished resizing its tables."""
    last = 0
    while True:
        found: dict[str, int] = client.info("memory")
        used = found["used_memory"] - found["mem_clients_normal"] - found["mem_aof_buffer"]
        if abs(used - last) < 4096:
            return used
        last = used
        time.sleep(0.5)


def _worker_bytes(place: Place, client: redis.Redis, missions: int) -> int:
    client.flushall()
    # One submitter has all the results: more than the default quota.
    system = Decoder(place, bulk=True, settings={"stored_quota": "0"})
    return measure(system, place.urls(missions), backlog=True).peak_bytes or 0


@click.command()
@click.option("--most", default=BACKLOGS[-1], show_default=True, help="The longest backlog.")
@click.option("--worked", default=100_000, show_default=True, help="Missions after which a worker's memory is read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(most: int, worked: int, *, as_json: bool) -> None:
    """Measure the cost by backlog, the bytes in Redis by state, and a worker's memory after many missions and after a tenth of them.

    \b
    Example:
      python -m benchmarks.growth --most 100000
    """
    rows: list[tuple[str, str]] = []

    def tell(name: str, **figures: float) -> None:
        if as_json:
            emit_json({"what": name} | figures)
        rows.append((name, ", ".join(f"{value:,.2f} {unit}" for unit, value in figures.items())))

    try:
        with ending_on_signals(), bench_place("everysec") as (place, client):
            system = Decoder(place, bulk=True)
            queued, ended = in_redis(place, client, system.settings)
            tell("a mission that waits", bytes=queued)
            tell("a mission that ended without secrets", bytes=ended)
            for backlog, figures in of_backlogs(place, client, [length for length in BACKLOGS if length <= most]):
                tell(f"a backlog of {backlog:,}", **figures)
            for missions in (worked // 10, worked):
                tell(f"a worker process after {missions:,}", peak_mib=_worker_bytes(place, client, missions) / 1024**2)
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if not as_json:
        emit_table(("", ""), rows)


if __name__ == "__main__":
    main()
