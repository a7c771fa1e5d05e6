"""One measurement: work for a warm system, from the first enqueue to the last result."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.systems import System
from mission.errors import DecoderError
from worker.local.stack import Child

WARM_UP = 256
_POLL_SECONDS = 0.01
_STALLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What one system did in one round, times in seconds.

    `seconds` go from the first enqueue to the last result, or, where all was enqueued before, from when the workers may
    begin. `cpu_seconds` is the worker processes', `peak_bytes` the most memory that one of them ever had; None where it is not known.
    """

    system: str
    missions: int
    seconds: float
    enqueue_seconds: float
    cpu_seconds: float | None
    peak_bytes: int | None = None

    @property
    def rate(self) -> float:
        """Missions per second."""
        return self.missions / self.seconds

    @property
    def cpu_ms(self) -> float | None:
        """CPU time of the workers for a mission, in milliseconds."""
        return None if self.cpu_seconds is None else 1000 * self.cpu_seconds / self.missions


def measure(
    system: System,
    urls: Sequence[str],
    *,
    backlog: bool = False,
    warm_up: int = WARM_UP,
    warm_up_urls: Sequence[str] = (),
    expected: int | None = None,
) -> Sample:
    """Start a system, warm it up, and time it on these URLs. Redis has to be empty.

    Args:
        system: a contender.
        urls: the work.
        backlog: enqueue all of it before the workers may begin, so that the producer takes no CPU from them.
        warm_up: so many missions go before.
        warm_up_urls: those, where they are others than the work.
        expected: how many of the work's missions are waited for; all without it.

    Raises:
        DecoderError: a worker ended, a mission failed, a result is wrong, or nothing moves any more.
    """
    with system.workers() as workers:
        system.enqueue(list(islice(cycle(warm_up_urls or urls), warm_up)))
        _wait(system, workers, warm_up)
        cpu_before = _cpu_seconds(workers)
        started = time.perf_counter()
        with _held(workers) if backlog else nullcontext():
            system.enqueue(urls)
            enqueued = time.perf_counter()
        _wait(system, workers, warm_up + (len(urls) if expected is None else expected))
        ended = time.perf_counter()
        cpu_after, peak = _cpu_seconds(workers), _peak_bytes(workers)
        if expected is None:  # else the last one has not had its turn
            system.check()
    cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
    seconds = ended - (enqueued if backlog else started)
    return Sample(system.name, expected or len(urls), seconds, enqueued - started, cpu, peak)


@contextmanager
def _held(workers: Sequence[Child]) -> Iterator[None]:
    """Stop the worker processes, all warm as they are, for the length of the block."""
    for worker in workers:
        os.killpg(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.killpg(worker.process.pid, signal.SIGCONT)


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Run on these alone, with every child that is started meanwhile."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def _wait(system: System, workers: Sequence[Child], count: int) -> None:
    seen, moved = 0, time.monotonic()
    while (finished := system.finished()) < count:
        if finished > seen:
            seen, moved = finished, time.monotonic()
        if time.monotonic() - moved > _STALLED_SECONDS:
            raise DecoderError(
                f"{system.name}: {finished} of {count} done, and nothing moved for {_STALLED_SECONDS:g} s"
            )
        for worker in workers:
            worker.check()
        time.sleep(_POLL_SECONDS)


def _cpu_seconds(workers: Sequence[Child]) -> float | None:
    """CPU time so far of the workers and the processes under them, by proc(5); None where there is no /proc."""
    ticks = [int(fields[11]) + int(fields[12]) for _, fields in _processes(workers)]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _peak_bytes(workers: Sequence[Child]) -> int | None:
    """The most memory that one of them ever had resident, by proc(5)."""
    peaks = []
    for folder, _ in _processes(workers):
        with suppress(OSError):
            peaks += re.findall(r"VmHWM:\s*(\d+) kB", (folder / "status").read_text())
    return max((1024 * int(peak) for peak in peaks), default=None)


def _processes(workers: Sequence[Child]) -> Iterator[tuple[Path, list[str]]]:
    """The workers and the processes under them: folders of /proc, with the fields of `stat` from the state on."""
    sessions = {worker.process.pid for worker in workers}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                yield path.parent, fields
