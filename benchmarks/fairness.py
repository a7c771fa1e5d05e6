"""The effect of one slow or dead host on the others: `python -m benchmarks.fairness`.

It runs missions for a good host, first alone, then mixed with as many for a host that accepts connections and never answers,
then with as many for a host with a closed port. The time runs from a full backlog to the good host's last mission; 1.00 is its speed alone.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import click

from benchmarks.measure import measure
from benchmarks.systems import Decoder
from benchmarks.throughput import bench_place
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals

ALONE, SLOW, DEAD = "alone", "beside a host that hangs", "beside a dead host"


@contextmanager
def hanging_host() -> Iterator[str]:
    """A host that accepts every connection and sends nothing."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:

        def take() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            for connection in kept:
                connection.close()


def dead_host() -> str:
    """A host with a closed port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


class Beside(Decoder):
    """The decoder, whose `finished` counts only the good host's missions: those of a bad host never succeed.

    One worker's default limits apply, so the good host has the same slots in every case.
    """

    def finished(self) -> int:
        """Missions of the good host that succeeded."""
        return self.client.stats().succeeded


@click.command()
@click.option("--missions", default=1000, show_default=True, type=click.IntRange(1), help="Missions for each host.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Number of rounds.")
@click.option(
    "--latency", default=0.05, show_default=True, type=click.FloatRange(0), help="Latency of the good host, in seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(missions: int, rounds: int, latency: float, *, as_json: bool) -> None:
    """Measure how much of its speed a good host keeps beside a bad host.

    \b
    Example:
      python -m benchmarks.fairness --missions 1000 --rounds 3
    """
    rates: dict[str, list[float]] = {ALONE: [], SLOW: [], DEAD: []}
    try:
        with (
            ending_on_signals(),
            bench_place("everysec", delay_seconds=latency) as (place, client),
            hanging_host() as slow,
        ):
            neighbours = {ALONE: None, SLOW: slow, DEAD: dead_host()}
            good = place.urls(missions)
            for number in range(rounds):
                order = list(neighbours)[number % 3 :] + list(neighbours)[: number % 3]
                for name in order:
                    neighbour = neighbours[name]
                    allowed = ",".join((*place.sites, neighbour) if neighbour else place.sites)
                    system = Beside(place, bulk=True, settings={"allowed_hosts": allowed, "host_concurrency": "8"})
                    system.name = f"{name} {number}"
                    client.flushall()
                    rates[name].append(_rate(system, good, neighbour))
                    click.echo(f"round {number + 1}: {name}: {rates[name][-1]:.0f}/s", err=True)
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    _print(rates, as_json=as_json)


def _rate(system: Beside, good: list[str], neighbour: str | None) -> float:
    """Missions per second of the good host, from a full backlog in which each one follows a mission of the neighbour."""
    if neighbour is None:
        return measure(system, good, backlog=True).rate
    mixed = [url for n, own in enumerate(good) for url in (f"http://{neighbour}/{n}", own)]
    return measure(system, mixed, backlog=True, expected=len(good), warm_up_urls=good).rate


def _print(rates: dict[str, list[float]], *, as_json: bool) -> None:
    rows = []
    for name, found in rates.items():
        kept = [rate / alone for rate, alone in zip(found, rates[ALONE], strict=True)]
        if as_json:
            emit_json({"good_host": name, "rates": found, "of_alone": kept})
        rows.append((name, f"{median(found):.0f}", f"{median(kept):.2f}", f"{min(kept):.2f} to {max(kept):.2f}"))
    if not as_json:
        emit_table(("GOOD HOST", "MISSIONS/S", "OF ITS SPEED ALONE", "MIN TO MAX"), rows)


if __name__ == "__main__":
    main()
