"""One worker process that mostly waits: `python -m benchmarks.waiting`.

Many hosts answer after a tenth of a second. The upper limit is concurrency / latency missions per second.
"""

from __future__ import annotations

import sys

import click

from benchmarks.measure import measure
from benchmarks.systems import Decoder
from benchmarks.throughput import bench_place
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals

HOSTS = 64
SECONDS = 10


@click.command()
@click.option("--latency", default=0.1, show_default=True, help="Latency of each answer, in seconds.")
@click.option("--concurrency", "several", default=(64, 256), multiple=True, show_default=True, help="Parallel fetches.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(latency: float, several: tuple[int, ...], *, as_json: bool) -> None:
    """Measure the throughput and the memory of one process with slow servers.

    \b
    Example:
      python -m benchmarks.waiting --concurrency 64
    """
    rows = []
    try:
        with ending_on_signals():
            for concurrency in several:
                settings = {"concurrency": str(concurrency), "memory": "4GiB"}
                most = concurrency / latency
                with bench_place("everysec", delay_seconds=latency, hosts=HOSTS) as (place, _):
                    system = Decoder(place, bulk=True, processes=1, settings=settings)
                    sample = measure(system, place.urls(round(most * SECONDS)), backlog=True, warm_up=4 * concurrency)
                mebibytes = (sample.peak_bytes or 0) / 1024**2
                if as_json:
                    emit_json(
                        {
                            "concurrency": concurrency,
                            "rate": sample.rate,
                            "of_most": sample.rate / most,
                            "peak_mib": mebibytes,
                        }
                    )
                rows.append(
                    (
                        str(concurrency),
                        f"{sample.rate:.0f}",
                        f"{sample.rate / most:.2f}",
                        f"{sample.cpu_ms or 0:.2f}",
                        f"{mebibytes:.0f}",
                    )
                )
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if not as_json:
        emit_table(("CONCURRENCY", "MISSIONS/S", "OF CONCURRENCY / LATENCY", "CPU MS", "PEAK MIB"), rows)


if __name__ == "__main__":
    main()
