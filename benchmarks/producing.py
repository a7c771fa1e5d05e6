"""The speed of a producer: `python -m benchmarks.producing`.

Compares `enqueue_many` to a loop of Celery's `apply_async`, and measures a loop of `enqueue`. No workers run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import click

from benchmarks.systems import Decoder, Peer, contenders
from benchmarks.throughput import bench_place
from mission.batch import CHUNK, Batch
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals


def _rate(enqueue: Callable[[], None], missions: int) -> float:
    began = time.perf_counter()
    enqueue()
    return missions / (time.perf_counter() - began)


def _resident() -> float:
    """The peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _add(batch: Batch, urls: Iterator[str]) -> None:
    """Enqueue an iterable that is too long for memory, one piece at a time."""
    while piece := list(islice(urls, CHUNK)):
        batch.add(piece)
    if batch.refused:
        raise DecoderError(f"{batch.refused.total()} URLs were refused")


@click.command()
@click.option("--missions", default=1_000_000, show_default=True, type=click.IntRange(8), help="Missions in one batch.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def main(missions: int, *, as_json: bool) -> None:
    """Measure a producer's missions per second, the CPU of one `enqueue`, and whether memory grows over a long iterable.

    \b
    Example:
      python -m benchmarks.producing --missions 100000
    """
    few = min(20_000, missions)
    try:
        with ending_on_signals(), bench_place("everysec") as (place, client):
            decoder = Decoder(place, bulk=True)
            (celery,) = [one for one in contenders(place) if isinstance(one, Peer) and one.name == "Celery"]
            ours, theirs = [], []
            for _ in range(3):
                client.flushall()
                ours.append(_rate(lambda: decoder.enqueue(place.urls(few)), few))
                client.flushall()
                theirs.append(_rate(lambda: celery.enqueue(place.urls(few // 4)), few // 4))
            single = Decoder(place, bulk=False)
            cpu_before = time.process_time()
            single.enqueue(place.urls(few // 4))
            call_cpu = (time.process_time() - cpu_before) / (few // 4)
            before = _resident()
            client.flushall()
            site = place.sites[0]
            batch = decoder.client.batch()
            many = _rate(lambda: _add(batch, (f"http://{site}/{number}" for number in range(missions))), missions)
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    found = {
        "enqueue_many_per_second": max(ours),
        "apply_async_per_second": max(theirs),
        "ratio": sorted(a / b for a, b in zip(ours, theirs, strict=True))[1],
        "enqueue_call_cpu_ms": 1000 * call_cpu,
        "long_iterable_per_second": many,
        "mib_more_after_it": _resident() - before,
    }
    if as_json:
        emit_json(found)
    else:
        emit_table(("", ""), [(name, f"{value:,.2f}") for name, value in found.items()])


if __name__ == "__main__":
    main()
