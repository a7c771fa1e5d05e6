"""The cost of learning how missions end: `python -m benchmarks.telling`.

The ledger ends the missions without a worker, so that only the notification is measured.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import quantiles
from typing import Any

import click
import redis

from benchmarks.throughput import as_packaged, fsync_option
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from mission.ids import new_mission_id
from mission.model import State
from mission.settings import Settings
from mission.store.changes import Admission, Commit
from mission.store.ledger import Ledger
from producer import MissionClient
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import ending_on_signals

_LOT = 250
# The rate at which missions end while clients wait, and how many each commit ends.
PER_SECOND, TOGETHER = 200, 4


class Bench:
    """A ledger on its own server."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self.settings = Settings.from_env(redis_url=url)
        self.client = client
        self._ledger = Ledger(client, self.settings)

    def producer(self) -> MissionClient:
        """A new client, as in another process."""
        return MissionClient(self.settings)

    def admit(self, count: int) -> list[str]:
        """Admit `count` missions and return their ids."""
        all_of_them = (Admission(new_mission_id(), b"u", 3600) for _ in range(count))
        lots = iter(lambda: list(islice(all_of_them, _LOT)), [])
        return [one.id for lot in lots for one in self._ledger.admit(lot, "app")]

    def running(self) -> str:
        """Claim a mission that does not end, and return its id."""
        self.admit(1)
        return self._ledger.claim(1, 3600.0).claims[0].id

    def end(self, count: int) -> list[str]:
        """Let the next `count` missions succeed, and return their ids."""
        claims = self._ledger.claim(count, 60.0).claims
        self._ledger.commit([Commit(one.id, one.token, State.SUCCEEDED, None, 0) for one in claims], 60.0)
        return [one.id for one in claims]

    def end_slowly(self, count: int) -> dict[str, float]:
        """End `count` missions at a steady rate; return when each commit began, by `perf_counter`."""
        due, ended = time.perf_counter(), dict[str, float]()
        while len(ended) < count:
            began = time.perf_counter()
            some = self.end(min(TOGETHER, count - len(ended)))
            ended |= dict.fromkeys(some, began)
            due += TOGETHER / PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
        return ended

    def thread_us(self) -> float:
        """CPU time of Redis' one thread so far, in microseconds."""
        cpu: dict[str, Any] = self.client.info("cpu")
        return 1e6 * float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])


@contextmanager
def bench(fsync: str) -> Iterator[Bench]:
    """A bench, removed at the end."""
    with EmbeddedRedis(env=as_packaged()) as server, redis.Redis.from_url(server.url, max_connections=4096) as client:
        client.config_set("appendfsync", fsync)
        yield Bench(server.url, client)


def backlog(place: Bench, count: int, group: str | None) -> float:
    """Outcomes per second that one reader takes from a backlog of `count`."""
    told = place.producer().outcomes(group)
    place.admit(count)
    ids = [one for _ in range(0, count, _LOT) for one in place.end(_LOT)]
    began = time.perf_counter()
    if [one.id for one in islice(told, count)] != ids:
        raise DecoderError("outcomes are missing or out of order")
    return count / (time.perf_counter() - began)


Hear = Callable[[list[str], dict[str, float]], list[threading.Thread]]


def beside(place: Bench, count: int, hear: Hear | None) -> dict[str, float]:
    """Redis' CPU for each of `count` ends, and the delay until a listener learns of it.

    `hear` starts the listeners; each notes when it learned of a mission.
    """
    ids, heard = place.admit(count), dict[str, float]()
    listening = hear(ids, heard) if hear else []
    time.sleep(1.0)  # until all of them listen
    before = place.thread_us()
    ended = place.end_slowly(count)
    used = {"redis_us_an_end": (place.thread_us() - before) / count}
    for thread in listening:
        thread.join(60)
    if not hear:
        return used
    if missing := ended.keys() - heard.keys():
        raise DecoderError(f"no listener learned of {len(missing)} ends")
    cuts = quantiles((1000 * (heard[one] - at) for one, at in ended.items()), n=100)
    return used | {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def started(target: Callable[..., None], several: list[tuple[Any, ...]]) -> list[threading.Thread]:
    """Start a thread for each tuple of arguments."""
    threads = [threading.Thread(target=target, args=arguments, daemon=True) for arguments in several]
    for thread in threads:
        thread.start()
    return threads


def measured(place: Bench, count: int, waiters: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Each way to learn of an end, with its cost."""
    missions, never, few = place.producer(), place.running(), min(waiters, count)

    def follow(told: Iterator[Any], heard: dict[str, float]) -> None:
        for one in islice(told, count):
            heard[one.id] = time.perf_counter()

    def wait(mission_id: str, heard: dict[str, float]) -> None:
        missions.wait(mission_id, 120)
        heard[mission_id] = time.perf_counter()

    def listen(mission_id: str, heard: dict[str, float]) -> None:
        next(iter(missions.follow([mission_id, never], 120)))  # two ids, so that it reads the stream
        heard[mission_id] = time.perf_counter()

    def wait_for_all(ids: list[str], heard: dict[str, float]) -> None:
        for one in missions.follow(ids, 120):
            heard[one.id] = time.perf_counter()

    yield "nobody", beside(place, count, None)
    yield "a reader", beside(place, count, lambda _, heard: started(follow, [(missions.outcomes(), heard)]))
    yield "a group of one", beside(place, count, lambda _, heard: started(follow, [(missions.outcomes("one"), heard)]))
    yield "one client that waits for all", beside(place, count, lambda *args: started(wait_for_all, [args]))
    for who, by in (("by id", wait), ("by stream", listen)):
        found = beside(place, few, lambda ids, heard, by=by: started(by, [(one, heard) for one in ids]))  # type: ignore[misc]  # mypy infers no type for it
        yield f"{few} clients, one mission each, {who}", found


@click.command()
@click.option(
    "--outcomes", "count", default=2000, show_default=True, type=click.IntRange(100), help="Number of outcomes."
)
@click.option("--waiters", default=200, show_default=True, type=click.IntRange(100, 2000), help="Parallel waiters.")
@fsync_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(count: int, waiters: int, fsync: str, *, as_json: bool) -> None:
    """Measure how fast outcomes are read, how soon a client learns of an end, and the cost in Redis.

    \b
    Example:
      python -m benchmarks.telling --outcomes 500
    """
    try:
        with ending_on_signals(), bench(fsync) as place:
            rates = {"alone": backlog(place, 10 * count, None), "group": backlog(place, 10 * count, "backlog")}
            rows = list(measured(place, count, waiters))
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if as_json:
        emit_json({f"{who}_per_second": rate for who, rate in rates.items()})
        for who, found in rows:
            emit_json({"who": who} | found)
        return
    emit_table(("OF A BACKLOG", "OUTCOMES/S"), [(who, f"{rate:,.0f}") for who, rate in rates.items()])
    click.echo()
    names = {"redis_us_an_end": "REDIS US AN END", "p50_ms": "P50 MS", "p99_ms": "P99 MS"}
    cells = [(who, *(f"{found[name]:.1f}" if name in found else "" for name in names)) for who, found in rows]
    emit_table(("", *names.values()), cells)


if __name__ == "__main__":
    main()
