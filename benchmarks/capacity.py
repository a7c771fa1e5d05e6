"""The constants of the capacity model, measured, fitted and checked: `python -m benchmarks.capacity`.

One worker process has its own core, everything else shares another one. Several configurations differ in one parameter each; an ordinary least
squares fit over them gives the constants of `worker.costs`. The fit then predicts two further configurations, which differ in several parameters.
The printed `MODEL` belongs in `worker/costs.py`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, cast

import click
import redis

from benchmarks.measure import measure, on_cores
from benchmarks.stored import in_redis, rounded
from benchmarks.systems import Decoder, Place
from benchmarks.throughput import bench_place
from ci import scaling
from ci.configuration import with_block
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from mission.model import State
from mission.store.names import Key
from worker import costs
from worker.costs import MODEL, Cost, Model, Stored
from worker.local.stack import Child, ending_on_signals

HOSTS = 64
# The lines around the model in worker/costs.py.
BEGIN, END = "# fitted: written by `python -m benchmarks.capacity --write`", "# end of fitted"
# The largest relative error that a prediction may have.
OFF = 0.15
_LOOK_SECONDS = 0.1
# Markers for the site's documents. The first finds nothing, the second a word in each line of filler (30 in 2 KB); the default ones find 3 secrets.
_NOTHING, _WORDS = "<<< >>>", "quick fox"


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration. A KB is 1,000 bytes; a document has 0, 3 or 30 `secrets` (30 only with 2 KB)."""

    name: str
    document_kb: float = 2.0
    latency_ms: float = 0.0
    concurrency: int = 32
    secrets: int = 3
    alone: bool = False

    @property
    def parts(self) -> dict[str, float]:
        """How often each cost of the model occurs in a mission of this setup."""
        return {
            "document_kb": self.document_kb,
            "records": float(self.secrets > 0),
            "secrets": float(self.secrets),
            "alone": float(self.alone),
        }


FITTED = (
    Setup("busy"),
    Setup("busy, 160 KB", document_kb=160.0),
    Setup("busy, no secrets", secrets=0),
    Setup("busy, 30 secrets", secrets=30),
    Setup("busy, one by one", alone=True),
    Setup("waits", latency_ms=150.0),
    Setup("waits, no secrets", latency_ms=150.0, secrets=0),
    Setup("waits, one by one", latency_ms=150.0, alone=True),
)
PREDICTED = (
    Setup("busy, 90 KB, 3 secrets, one by one", document_kb=90.0, alone=True),
    Setup(
        "waits 200 ms, 40 KB, no secrets, 48 side by side",
        document_kb=40.0,
        latency_ms=200.0,
        secrets=0,
        concurrency=48,
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a setup: missions per second, the cost of each, and the slot time beyond the latency, in ms."""

    rate: float
    cost: Cost
    slot_ms: float


class _Watched(Decoder):
    """One worker process on the last core; Redis' counters are read before and after the work."""

    def __init__(self, place: Place, setup: Setup, client: redis.Redis) -> None:
        markers = {0: _NOTHING, 30: _WORDS}.get(setup.secrets)
        settings = {"concurrency": str(setup.concurrency), "memory": "2GiB"} | ({"markers": markers} if markers else {})
        super().__init__(place, bulk=not setup.alone, processes=1, settings=settings)
        self._client, self._secrets = client, setup.secrets
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """The worker, bound to its core."""
        with ExitStack() as stack:
            with on_cores(_cores()[-1:]):
                children = stack.enter_context(super().workers())
            yield children

    def enqueue(self, urls: Iterable[str]) -> None:
        """Give it work."""
        self.before = self._look()
        super().enqueue(urls)

    def finished(self) -> int:
        """Missions that succeeded; queried seldom and with one command, because Redis is being measured."""
        time.sleep(_LOOK_SECONDS)
        counts = cast("dict[bytes, bytes]", self._client.hgetall(Key.FINISHED))
        ended = {state.decode(): int(count) for state, count in counts.items()}
        if set(ended) - {State.SUCCEEDED}:
            raise DecoderError(f"missions failed: {ended}; see the worker's log")
        return ended.get(State.SUCCEEDED, 0)

    def check(self) -> None:
        """Check the last mission, and read Redis' counters."""
        self.after = self._look()
        found = self.client.status(self._last).secrets
        if found != self._secrets:
            raise DecoderError(f"the last mission has {found} secrets, not {self._secrets}")

    def _look(self) -> dict[str, Any]:
        return {**self._client.info("cpu"), **self._client.info("stats")}

    def costs(self, missions: int, worker_ms: float) -> Cost:
        """The cost of a mission."""

        def grown(*names: str) -> float:
            return sum(float(self.after[name]) - float(self.before[name]) for name in names) / missions

        thread = grown("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        return Cost(
            worker_ms,
            1e6 * thread,
            grown("total_commands_processed"),
            grown("total_net_input_bytes"),
            grown("total_net_output_bytes"),
        )


def _cores() -> list[int]:
    """All cores: the last one is the worker's."""
    cores = list(range(os.cpu_count() or 1))
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        raise DecoderError("needs Linux and two cores: one for the worker, one for everything else")
    return cores


def work(setup: Setup, seconds: float) -> Measured:
    """Run a setup for about `seconds`.

    Raises:
        DecoderError: a mission failed, or a result is wrong.
    """
    rate = (
        MODEL.of_slots(setup.concurrency, setup.latency_ms)
        if setup.latency_ms
        else 1000 / MODEL.cost(**setup.parts).worker_ms
    )
    # Whole rounds of all slots, so that few slots are idle at the end.
    missions = setup.concurrency * max(10, round(rate * seconds / setup.concurrency))
    hosts = HOSTS if setup.latency_ms else 1
    with (
        on_cores(_cores()[:-1]),
        bench_place(
            "everysec",
            delay_seconds=setup.latency_ms / 1000,
            hosts=hosts,
            document_bytes=round(1000 * setup.document_kb),
        ) as (place, client),
    ):
        system = _Watched(place, setup, client)
        sample = measure(system, place.urls(missions), backlog=True, warm_up=8 * setup.concurrency)
    cost = system.costs(missions, sample.cpu_ms or 0.0)
    return Measured(sample.rate, cost, 1000 * setup.concurrency / sample.rate - setup.latency_ms)


def least(several: Sequence[Measured]) -> Measured:
    """The least of each figure: other load on the machine only adds to it."""
    cost = Cost(*(min(getattr(one.cost, column.name) for one in several) for column in fields(Cost)))
    return Measured(max(one.rate for one in several), cost, min(one.slot_ms for one in several))


_PARTS = ("mission", "document_kb", "record", "secret", "waiting_second", "alone", "alone_waiting")


def _row(setup: Setup, rate: float) -> list[float]:
    """How often each of `_PARTS` occurs in a mission of this setup."""
    *parts, alone = setup.parts.values()
    waits = setup.latency_ms > 0
    return [1.0, *parts, waits / rate, alone * (not waits), alone * waits]


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """The x that minimises the sum of squares of rows · x - values: normal equations, by Gauss-Jordan elimination."""
    size = len(rows[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(matrix[r][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        matrix[i] = [value / matrix[i][i] for value in matrix[i]]
        for r in range(size):
            if r != i:
                matrix[r] = [a - matrix[r][i] * b for a, b in zip(matrix[r], matrix[i], strict=True)]
    return [row[-1] for row in matrix]


def fit(measured: Sequence[tuple[Setup, Measured]], stored: Stored) -> Model:
    """Fit the model. Each figure of a cost is fitted separately; a value below 0 is noise and becomes 0.

    The fit minimises the squares of the relative errors, so that a cheap configuration counts as much as an expensive one.
    """
    columns = []
    for column in fields(Cost):
        values = [getattr(one.cost, column.name) for _, one in measured]
        rows = [
            [x / value for x in _row(setup, one.rate)] for (setup, one), value in zip(measured, values, strict=True)
        ]
        columns.append(least_squares(rows, [1.0] * len(rows)))
    costs = {
        part: Cost(*(rounded(max(0.0, column[number])) for column in columns)) for number, part in enumerate(_PARTS)
    }
    slot_ms = median(one.slot_ms for setup, one in measured if setup.latency_ms)
    return Model(**costs, slot_ms=rounded(slot_ms), stored=stored)


@dataclass(frozen=True, slots=True)
class Check:
    """A figure of a configuration: the prediction and the measurement."""

    setup: str
    figure: str
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """The prediction's relative error."""
        return self.predicted / self.measured - 1

    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        return (
            self.setup,
            self.figure.replace("_", " "),
            _shown(self.predicted),
            _shown(self.measured),
            f"{self.off:+.0%}",
        )


def predictions(model: Model, setup: Setup, measured: Measured) -> Iterator[Check]:
    """The model's predictions for a configuration, beside the measurements."""
    of_slots, of_core = model.of_slots(setup.concurrency, setup.latency_ms), 1000 / model.cost(**setup.parts).worker_ms
    waits = setup.latency_ms > 0 and of_slots < of_core
    yield Check(setup.name, "missions/s", of_slots if waits else of_core, measured.rate)
    waiting = model.waiting(setup.concurrency, setup.latency_ms)
    cost = model.cost(**setup.parts, waiting_seconds=waiting if waits else 0.0)
    for column in fields(Cost):
        yield Check(setup.name, column.name, getattr(cost, column.name), getattr(measured.cost, column.name))


def run(rounds: int, seconds: float) -> Iterator[tuple[Setup, Measured]]:
    """All configurations, each with the best of `rounds` rounds.

    Raises:
        DecoderError: a configuration did not do its work.
    """
    found: dict[Setup, list[Measured]] = {setup: [] for setup in (*FITTED, *PREDICTED)}
    for number in range(rounds):
        for setup, several in found.items():
            several.append(one := work(setup, seconds))
            click.echo(f"round {number + 1}: {setup.name}: {one.rate:.0f}/s, {one.cost.worker_ms:.3f} ms", err=True)
    return ((setup, least(several)) for setup, several in found.items())


@click.command()
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1), help="Number of rounds; the best counts."
)
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(1), help="Approximate length of a measurement."
)
@click.option("--write", is_flag=True, help="Write the model to worker/costs.py and the checks to docs/SCALING.md.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(rounds: int, seconds: float, *, write: bool, as_json: bool) -> None:
    """Measure, fit and check the capacity model. Exit code 1 if a prediction is off by more than 15 %.

    \b
    Example:
      python -m benchmarks.capacity --rounds 1
    """
    try:
        with ending_on_signals():
            stored = in_redis()
            measured = dict(run(rounds, seconds))
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    model = fit([(setup, measured[setup]) for setup in FITTED], stored)
    checks = [check for setup in PREDICTED for check in predictions(model, setup, measured[setup])]
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    if as_json:
        for setup, one in measured.items():
            emit_json({"setup": setup.name} | asdict(one))
        emit_json({"model": asdict(model)})
        for check in checks:
            emit_json(asdict(check) | {"off": check.off})
    else:
        head = ("", "MISSIONS/S", "SLOT MS", *(column.name.upper() for column in fields(Cost)))
        emit_table(head, [(setup.name, *map(_shown, _figures(one))) for setup, one in measured.items()])
        click.echo()
        emit_table(("PREDICTED", "", "MODEL", "MEASURED", "OFF"), [check.cells() for check in checks])
        click.echo(f"\n# {machine}, {rounds} rounds.\n{as_python(model)}")
    if write:
        _put(Path(costs.__file__), BEGIN, END, as_python(model))
        lines = [
            f"{machine}, the best of {rounds}:",
            "",
            "| predicted | | model | measured | off |",
            "|---|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(check.cells())} |" for check in checks]
        _put(scaling.DOCUMENT, scaling.CHECKS, scaling.END, "\n".join(lines))
        # In a new process: this one still has the old model.
        subprocess.run([sys.executable, "-m", "ci.scaling"], check=True)
    sys.exit(any(abs(check.off) > OFF for check in checks))


def as_python(model: Model) -> str:
    """The model as Python code for worker/costs.py."""
    lines = ["MODEL = Model("]
    for part in _PARTS:
        cost = getattr(model, part)
        lines.append(f"    {part}=Cost({', '.join(str(getattr(cost, column.name)) for column in fields(Cost))}),")
    stored = ", ".join(f"{one.name}={getattr(model.stored, one.name):g}" for one in fields(Stored))
    return "\n".join([*lines, f"    slot_ms={model.slot_ms},", f"    stored=Stored({stored}),", ")"])


def _put(file: Path, begin: str, end: str, block: str) -> None:
    file.write_text(with_block(file.read_text(encoding="utf-8"), begin, end, block), encoding="utf-8")


def _figures(one: Measured) -> list[float]:
    return [one.rate, one.slot_ms, *(getattr(one.cost, column.name) for column in fields(Cost))]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
