"""The effect of a backlog on missions that should not wait for it: `python -m benchmarks.urgency`.

It measures an urgent mission beside a backlog of low priority, a submitter's hundred missions beside another submitter's backlog, and the
shares of the three priorities while all wait. Servers answer slowly, so that slots are scarce, not this machine's processors.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from statistics import quantiles

import click

from benchmarks.systems import Decoder, Place
from benchmarks.throughput import bench_place
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from mission.model import Priority
from worker.local.stack import ending_on_signals

# Missions of the other submitter, and of each priority.
FEW, SHARED = 100, 4000
_PAUSE_SECONDS = 0.05
_PATIENCE_SECONDS = 600.0


class Timed(Decoder):
    """The decoder, with a producer that times its missions."""

    def __init__(self, place: Place, concurrency: int, host_concurrency: int) -> None:
        settings = {"concurrency": str(concurrency), "host_concurrency": str(host_concurrency)}
        # No reader fetches the backlog's results, so they would soon fill the submitter's quota.
        super().__init__(place, bulk=True, settings=settings | {"stored_quota": "0"})
        self._urls = (f"http://{place.sites[0]}/{number}" for number in count())

    def urgent(self, missions: int) -> list[float]:
        """Milliseconds from the call to the end of each mission, one after the other."""
        times = []
        for _ in range(missions):
            began = time.perf_counter()
            ticket = self.client.enqueue(next(self._urls), priority=Priority.HIGH)
            self.client.wait(ticket.id, timeout=_PATIENCE_SECONDS)
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(_PAUSE_SECONDS)
        return times

    def few(self) -> float:
        """Seconds until a submitter's `FEW` missions are done."""
        began = time.perf_counter()
        self.client.enqueue_many(next(self._urls) for _ in range(FEW)).wait(_PATIENCE_SECONDS)
        return time.perf_counter() - began

    def backlog(self, missions: int, priority: Priority) -> None:
        """Enqueue a backlog of another submitter."""
        urls = (next(self._urls) for _ in range(missions))
        batch = self.client.enqueue_many(urls, submitter="bulk", priority=priority)
        if batch.refused:
            raise DecoderError(f"{batch.refused.total()} URLs were refused")

    def shares(self) -> list[float]:
        """Each priority's share of 13 claims, while all three have missions that wait."""
        for priority in Priority:
            self.backlog(SHARED, priority)
        before = self._queued()
        while min(now := self._queued()) > SHARED // 4:
            time.sleep(_PAUSE_SECONDS)
        claimed = [some - left for some, left in zip(before, now, strict=True)]
        return [13 * some / sum(claimed) for some in claimed]

    def _queued(self) -> list[int]:
        stats = self.client.stats()
        return [stats.queued_high, stats.queued_normal, stats.queued_low]


@click.command()
@click.option("--backlog", default=200_000, show_default=True, type=click.IntRange(1), help="Missions in the backlog.")
@click.option("--missions", default=200, show_default=True, type=click.IntRange(2), help="Urgent missions to time.")
@click.option(
    "--latency", default=0.1, show_default=True, type=click.FloatRange(0), help="Latency of the site, in seconds."
)
@click.option(
    "--concurrency", default=16, show_default=True, type=click.IntRange(1), help="Slots of each of two workers."
)
@click.option(
    "--host-concurrency", default=1024, show_default=True, type=click.IntRange(1), help="Slots of the one host."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def main(
    backlog: int, missions: int, latency: float, concurrency: int, host_concurrency: int, *, as_json: bool
) -> None:
    """Measure urgent missions and a small submitter, with and without a backlog; and the shares of the priorities.

    \b
    Example:
      python -m benchmarks.urgency --backlog 20000
    """
    found: dict[str, float] = {}
    try:
        with ending_on_signals(), bench_place("everysec", delay_seconds=latency) as (place, client):
            system = Timed(place, concurrency, host_concurrency)
            with system.workers():
                system.urgent(20)  # warm
                _note(found, "urgent_alone", system.urgent(missions))
                found["few_alone_seconds"] = system.few()
                system.backlog(backlog, Priority.LOW)
                _note(found, "urgent_beside_low", system.urgent(missions))
            client.flushall()
            with system.workers():
                system.backlog(backlog, Priority.NORMAL)
                found["few_beside_bulk_seconds"] = system.few()
            client.flushall()
            with system.workers():
                shares = system.shares()
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    found["urgent_p95_ratio"] = found["urgent_beside_low_p95_ms"] / found["urgent_alone_p95_ms"]
    found |= {f"share_{priority}_of_13": share for priority, share in zip(Priority, shares, strict=True)}
    if as_json:
        emit_json(found)
    else:
        emit_table(("", ""), [(name, f"{value:,.2f}") for name, value in found.items()])


def _note(found: dict[str, float], name: str, times: list[float]) -> None:
    cuts = quantiles(times, n=20)
    found |= {f"{name}_p50_ms": cuts[9], f"{name}_p95_ms": cuts[18]}


if __name__ == "__main__":
    main()
