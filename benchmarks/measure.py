"""One measurement of a warm system, from the first enqueue to the last result."""

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
    """The result of one system in one round; times are in seconds.

    `seconds` run from the first enqueue to the last result. With a backlog they begin when the workers may start.
    `cpu_seconds` is the CPU time of the worker processes, `peak_bytes` the peak memory of the largest one; None if unknown.
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
        """CPU time of the workers per mission, in milliseconds."""
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
    """Start a system, warm it up, and time it on these URLs. Redis must be empty.

    Args:
        system: the contender.
        urls: the documents to process.
        backlog: enqueue all URLs before the workers may start, so that the producer takes no CPU from them.
        warm_up: number of missions that run first.
        warm_up_urls: URLs for the warm-up; default `urls`.
        expected: number of missions to wait for; default all.

    Raises:
        DecoderError: a worker ended, a mission failed, a result is wrong, or the work stalled.
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
        if expected is None:  # otherwise the last mission may not have run
            system.check()
    cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
    seconds = ended - (enqueued if backlog else started)
    return Sample(system.name, expected or len(urls), seconds, enqueued - started, cpu, peak)


@contextmanager
def _held(workers: Sequence[Child]) -> Iterator[None]:
    """Pause the warm worker processes for the length of the block."""
    for worker in workers:
        os.killpg(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.killpg(worker.process.pid, signal.SIGCONT)


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Run only on these cores, with every child that is started meanwhile."""
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
            raise DecoderError(f"{system.name}: {finished} of {count} done, and no progress for {_STALLED_SECONDS:g} s")
        for worker in workers:
            worker.check()
        time.sleep(_POLL_SECONDS)


def _cpu_seconds(workers: Sequence[Child]) -> float | None:
    """CPU time so far of the workers and their child processes, by proc(5); None if there is no /proc."""
    ticks = [int(fields[11]) + int(fields[12]) for _, fields in _processes(workers)]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _peak_bytes(workers: Sequence[Child]) -> int | None:
    """The peak resident memory of the largest process, by proc(5)."""
    peaks = []
    for folder, _ in _processes(workers):
        with suppress(OSError):
            peaks += re.findall(r"VmHWM:\s*(\d+) kB", (folder / "status").read_text())
    return max((1024 * int(peak) for peak in peaks), default=None)


def _processes(workers: Sequence[Child]) -> Iterator[tuple[Path, list[str]]]:
    """The workers and their child processes: folders of /proc, with the fields of `stat` from the state on."""
    sessions = {worker.process.pid for worker in workers}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                yield path.parent, fields
