"""Documents of 10 MiB, compared to the bare loop: `python -m benchmarks.large`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from benchmarks.measure import Sample, measure
from benchmarks.report import report
from benchmarks.systems import BareLoop, Decoder, System
from benchmarks.throughput import bench_place
from mission.errors import DecoderError

BYTES = 10 * 1024**2 - 4096
# Memory limit of a process: too little for all its fetches of such documents at once, so they take turns.
MEMORY = 768 * 1024**2


def rounds(missions: int, count: int) -> Iterator[tuple[int, Sample]]:
    """Yield each sample with its round.

    Raises:
        DecoderError: a side did not do its work, or a worker process used more than `MEMORY`.
    """
    with bench_place("everysec", document_bytes=BYTES) as (place, client):
        decoder = Decoder(place, bulk=True, settings={"memory": f"{MEMORY // 1024**2}MiB"})
        sides: list[System] = [decoder, BareLoop(place)]
        urls = place.urls(missions)
        for number in range(count):
            for side in sides if number % 2 == 0 else reversed(sides):
                client.flushall()
                sample = measure(side, urls, backlog=True, warm_up=8)
                if side is decoder and (sample.peak_bytes or 0) > MEMORY:
                    raise DecoderError(f"a worker process used {sample.peak_bytes} bytes; the limit is {MEMORY}")
                yield number, sample


@click.command()
@click.option(
    "--missions", default=200, show_default=True, type=click.IntRange(1), help="Missions for each side and round."
)
@click.option("--rounds", "count", default=3, show_default=True, type=click.IntRange(1), help="Number of rounds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(missions: int, count: int, *, as_json: bool) -> None:
    """Measure the cost and the memory of large documents. Exit code 1 if memory exceeds DECODER_MEMORY, set to 768MiB.

    \b
    Example:
      python -m benchmarks.large --missions 50
    """
    report(rounds(missions, count)).show(as_json=as_json)


if __name__ == "__main__":
    main()
