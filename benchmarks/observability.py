"""The cost of observability: `python -m benchmarks.observability`.

Compares the decoder with metrics (scraped each second), logs, events and Flower to the decoder without them.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from statistics import median

import click

from benchmarks.measure import WARM_UP, Sample, measure
from benchmarks.report import report
from benchmarks.systems import Decoder, Place, running
from benchmarks.throughput import bench_place
from worker.local.stack import Child, running_flower, stack_environment

WATCHED, UNWATCHED = "all on", "all off"
SCRAPE_SECONDS = 1.0
GOAL = 0.92


class Watched(Decoder):
    """The decoder as in production, with Flower; both are scraped more often than Prometheus would."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, bulk=True)
        self.name = WATCHED

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """The worker processes, ready. Flower is not included, so its CPU time does not count."""
        with ExitStack() as stack:
            flower = stack.enter_context(running_flower(self._folder(), self._values))
            children = stack.enter_context(super().workers())
            ports = re.findall(r"metrics on port (\d+)", children[0].log.read_text(encoding="utf-8"))
            targets = [f"{flower.url}/metrics", *(f"http://127.0.0.1:{port}/metrics" for port in ports)]
            stack.enter_context(_scraping(targets))
            yield children


class Unwatched(Decoder):
    """The decoder without metrics, logs and events."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, bulk=True)
        self.name = UNWATCHED

    def _worker(self) -> AbstractContextManager[Child]:
        return running("worker", ["benchmarks.unwatched"], self._folder(), stack_environment(self._values))


@contextmanager
def _scraping(targets: Sequence[str]) -> Iterator[None]:
    """Scrape all targets periodically."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(SCRAPE_SECONDS):
            for target in targets:
                with suppress(OSError), urllib.request.urlopen(target, timeout=10) as answer:
                    answer.read()

    thread = threading.Thread(target=loop, name="scraper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rounds(missions: int, count: int, *, warm_up: int = WARM_UP) -> Iterator[tuple[int, Sample]]:
    """Yield each sample with its round. Both sides run in each round, in alternating order; only the workers are timed.

    Raises:
        DecoderError: a side did not do its work.
    """
    with bench_place("everysec") as (place, client):
        sides: list[Decoder] = [Watched(place), Unwatched(place)]
        urls = place.urls(missions)
        for number in range(count):
            for side in sides if number % 2 == 0 else reversed(sides):
                client.flushall()
                yield number, measure(side, urls, backlog=True, warm_up=warm_up)


@click.command()
@click.option(
    "--missions", default=4000, show_default=True, type=click.IntRange(1), help="Missions for each side and round."
)
@click.option("--rounds", "count", default=5, show_default=True, type=click.IntRange(1), help="Number of rounds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(missions: int, count: int, *, as_json: bool) -> None:
    """Measure the cost of metrics, logs, events and Flower. Exit code 1 if less than 0.92 of the speed is left.

    \b
    Example:
      python -m benchmarks.observability --missions 2000 --rounds 3
    """
    found = report(rounds(missions, count))
    if not as_json:
        click.echo(f"missions: {missions}, rounds: {count}, workers only, {os.cpu_count()} CPUs")
    found.show(as_json=as_json)
    ((_, _, ratios),) = found.ratios()
    sys.exit(int(median(ratios) < GOAL))


if __name__ == "__main__":
    main()
