"""The time from a call of `enqueue` to its result, one mission at a time: `python -m benchmarks.latency`."""

from __future__ import annotations

import sys
import time
from statistics import quantiles

import click

from benchmarks.systems import Decoder
from benchmarks.throughput import bench_place
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals

WARM_UP = 200


@click.command()
@click.option("--missions", default=2000, show_default=True, type=click.IntRange(100), help="Number of missions.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def main(missions: int, *, as_json: bool) -> None:
    """Measure how long a mission takes on an idle worker, and the producer's call within it.

    \b
    Example:
      python -m benchmarks.latency --missions 500
    """
    calls, ends, cpu = [], [], 0.0
    try:
        with ending_on_signals(), bench_place("everysec") as (place, _):
            system = Decoder(place, bulk=False)
            with system.workers():
                for number, url in enumerate(place.urls(WARM_UP + missions)):
                    began, cpu_before = time.perf_counter(), time.process_time()
                    ticket = system.client.enqueue(url)
                    called, cpu_after = time.perf_counter(), time.process_time()
                    if not system.client.wait(ticket.id, timeout=60).finished:
                        raise DecoderError(f"mission {ticket.id} did not end within a minute")
                    if number >= WARM_UP:
                        ends.append(1000 * (time.perf_counter() - began))
                        calls.append(1000 * (called - began))
                        cpu += cpu_after - cpu_before
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    cuts, of_calls = quantiles(ends, n=100), quantiles(calls, n=100)
    found = {"p50_ms": cuts[49], "p99_ms": cuts[98], "call_p50_ms": of_calls[49], "call_cpu_ms": 1000 * cpu / missions}
    if as_json:
        emit_json(found)
    else:
        emit_table(("", "MS"), [(name, f"{value:.2f}") for name, value in found.items()])


if __name__ == "__main__":
    main()
