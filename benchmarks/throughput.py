"""Missions per second of the decoder, a tutorial's Celery task, and Dramatiq: `python -m benchmarks.throughput`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import click
import redis

from benchmarks.measure import WARM_UP, Sample, measure
from benchmarks.report import report
from benchmarks.site import addresses
from benchmarks.systems import Place, contenders, running
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import temporary_folder


def as_packaged() -> dict[str, str]:
    """A server's environment with the allocator of packaged servers. With glibc's allocator, commands slow down as data grows."""
    allocator = find_library("jemalloc")
    return {"LD_PRELOAD": allocator} if allocator else {}


@contextmanager
def bench_place(
    fsync: str, *, delay_seconds: float = 0.0, hosts: int = 1, document_bytes: int = 0
) -> Iterator[tuple[Place, redis.Redis]]:
    """A Valkey with this fsync policy, the site with delayed answers, and a folder; all are removed at the end."""
    with (
        temporary_folder() as folder,
        EmbeddedRedis(env=as_packaged()) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        client.config_set("appendfsync", fsync)
        client.config_set("auto-aof-rewrite-percentage", 0)  # no rewrite in the middle of a measurement
        arguments = ["benchmarks.site", *map(str, (delay_seconds, hosts, document_bytes))]
        with running("site", arguments, folder / "site", os.environ) as site:
            port = site.wait_until(r"port (\d+)\n")[1]
            yield Place(server.url, tuple(f"{host}:{port}" for host in addresses(hosts)), folder), client


def rounds(
    missions: int, count: int, fsync: str, *, backlog: bool = False, warm_up: int = WARM_UP
) -> Iterator[tuple[int, Sample]]:
    """Yield each sample with its round. Each round runs all systems in turn and starts with a different one.

    Raises:
        DecoderError: a system did not do its work.
    """
    with bench_place(fsync) as (place, client):
        systems = contenders(place)
        urls = place.urls(missions)
        for number in range(count):
            first = number % len(systems)
            for system in systems[first:] + systems[:first]:
                client.flushall()
                yield number, measure(system, urls, backlog=backlog, warm_up=warm_up)


fsync_option = click.option(
    "--fsync",
    default="everysec",
    show_default=True,
    type=click.Choice(["everysec", "always"]),
    help="Fsync policy of Valkey's AOF.",
)


@click.command()
@click.option(
    "--missions", default=4000, show_default=True, type=click.IntRange(1), help="Missions for each system and round."
)
@click.option("--rounds", "count", default=3, show_default=True, type=click.IntRange(1), help="Number of rounds.")
@fsync_option
@click.option(
    "--backlog", is_flag=True, help="Enqueue all missions before the workers start, and time only the workers."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write throughput.json and throughput.svg into this folder.",
)
def main(missions: int, count: int, fsync: str, out: Path | None, *, backlog: bool, as_json: bool) -> None:
    """Measure missions per second of the decoder and of its peers on this machine.

    \b
    Example:
      python -m benchmarks.throughput --missions 1000 --rounds 2
    """
    found = report(rounds(missions, count, fsync, backlog=backlog), ours=2)
    mode = "workers only" if backlog else "producer beside workers"
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    machine += f", Valkey with {find_library('jemalloc') or 'the C library'} for its memory"
    if not as_json:
        click.echo(f"missions: {missions}, rounds: {count}, appendfsync {fsync}, {mode}, {machine}")
    found.show(as_json=as_json)
    if out:
        found.write(out, missions=missions, rounds=count, appendfsync=fsync, mode=mode, machine=machine)


if __name__ == "__main__":
    main()
