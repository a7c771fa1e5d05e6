"""Disturbances of workers: SIGKILL, missions that kill their worker, SIGTERM, SIGSTOP."""

from __future__ import annotations

import random
import signal
import time

from tests.chaos.arena import Arena
from tests.chaos.nursery import CRASHES, DIES, HOLDS
from tests.chaos.report import Report, Scale
from tests.chaos.site import STUCK
from tests.chaos.workers import Worker
from worker.work.retry import SUSPECT_AFTER

# How far a worker may exceed its grace period on a busy machine.
_MARGIN_SECONDS = 5.0
_KILL_INTERVAL_SECONDS = 0.5


def kill_workers(scale: Scale) -> Report:
    """1. A random worker gets SIGKILL every half second under load; another commits too late."""
    report = Report("1 SIGKILL of workers")
    count, seconds, workers = scale.pick(600, 10_000), scale.pick(7.0, 60.0), scale.pick(3, 4)
    dice = random.Random(1)
    hooks = scale.pick(("quick",), ())
    with Arena(report, hooks=hooks, delay=0.2, worker={"max_attempts": "20"}) as arena:
        arena.start_workers(1, "late")
        late = arena.workers[0]
        kills = 0
        with arena.load(count, per_second=count / seconds) as load:
            arena.wait(lambda: arena.running(load), 10, "the late worker's first mission")
            arena.start_workers(workers - 1)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                arena.mark()
                victim = dice.choice([worker for worker in arena.alive() if worker is not late])
                victim.kill()
                kills += 1
                arena.start_worker()
                time.sleep(_KILL_INTERVAL_SECONDS)
        arena.drain(scale.pick(60, 300))
        arena.count()
        stale = late.log.read_text().count("ended here after another worker had claimed it")
    report.notes.append(f"{kills} SIGKILLs; {stale} late commits refused; enqueues refused: {dict(load.refusals)}")
    report.expect(stale, "no commit came late")
    report.expect(report.succeeded == report.accepted == count, "not every mission succeeded")
    return report


def deadly_mission(scale: Scale) -> Report:
    """7. Missions that kill their worker at every attempt; good ones in the same messages and beside them."""
    report = Report("7 a mission that kills its worker")
    # Each stall of the machine that outlasts the deadline of 3 s costs a good mission an attempt.
    deadly, count, attempts = scale.pick(1, 5), scale.pick(120, 2000), scale.pick(3, 5)
    killers = {8 + 16 * n: DIES for n in range(deadly)}  # each in the middle of a message
    deaths = _with_killers(report, scale, "deadly", killers, count, attempts)
    report.expect(deaths <= deadly * (SUSPECT_AFTER + attempts), "a mission took more workers along than is stated")
    report.expect(report.dead == deadly, f"{report.dead} missions are dead, and {deadly} deserve it")
    return report


def hostile_document(scale: Scale) -> Report:
    """7b. Documents whose extraction crashes the process, or holds its interpreter forever; good ones in the same messages."""
    report = Report("7b a document that kills its worker")
    pairs, count, attempts = scale.pick(1, 3), scale.pick(120, 2000), 3
    killers = {8 + 32 * n: CRASHES for n in range(pairs)} | {24 + 32 * n: HOLDS for n in range(pairs)}
    deaths = _with_killers(report, scale, "fragile", killers, count, attempts)
    report.expect(deaths <= 2 * pairs * SUSPECT_AFTER, "a document took more workers along than is stated")
    report.expect(
        (report.failed, report.dead) == (pairs, pairs),
        f"{report.failed} failed, {report.dead} dead; {pairs} each deserve it",
    )
    return report


def _with_killers(report: Report, scale: Scale, hook: str, killers: dict[int, str], count: int, attempts: int) -> int:
    """Run these missions and replace each worker that dies of them; return how many died."""
    hooks = scale.pick(("quick", hook), (hook,))
    with Arena(report, hooks=hooks, delay=0.3, worker={"max_attempts": str(attempts)}) as arena:
        with arena.load(count, chunk=64, url=lambda n: arena.site.url(n, killers.get(n, "/document/"))):
            pass
        for _ in range(2):
            arena.start_worker()  # it may die before it reports ready
        until = time.monotonic() + scale.pick(150, 300)
        deaths = 0
        while arena.open_missions() and time.monotonic() < until:
            for worker in [worker for worker in arena.workers if worker.ended()]:
                arena.workers.remove(worker)
                deaths += 1
                arena.mark()
                arena.start_worker()
            time.sleep(0.05)
        arena.drain(1)
        arena.count()
    report.notes.append(f"{len(killers)} deadly missions, {deaths} workers died, {attempts} attempts each")
    report.expect(report.succeeded == count - len(killers), "a good mission did not succeed")
    return deaths


def rolling_sigterm(scale: Scale) -> Report:
    """5. Workers are replaced one after the other under load; the last ones hang in a read, get SIGTERM twice, get SIGKILL."""
    report = Report("5 rolling SIGTERM")
    rate, rounds, grace = 100.0, scale.pick(4, 20), scale.pick(2.0, 10.0)
    ends = []
    with Arena(report, delay=0.2, worker={"shutdown_grace": f"{grace}s", "max_attempts": "2"}) as arena:
        arena.start_workers(2)
        with arena.load(None, per_second=rate) as load:
            for turn in range(rounds):
                old = arena.alive()[0]
                arena.start_workers(1)
                arena.mark()
                old.signal(signal.SIGTERM)
                if turn % 2:
                    old.signal(signal.SIGTERM)
                ends.append(_ends_in(old, grace + _MARGIN_SECONDS, report))
                report.expect(old.code == 0, f"a worker ended with {old.code} after SIGTERM")
        # A read that never ends holds a thread of each worker until the deadline.
        with arena.load(8, chunk=1, url=lambda n: arena.site.url(n, STUCK)) as stuck:
            pass
        arena.wait(lambda: len(arena.running(stuck)) == 8, 30, "the stuck reads")
        asked, killed = arena.alive()
        for worker in (asked, killed):
            worker.signal(signal.SIGTERM)
        killed.kill()
        ends.append(_ends_in(asked, grace + _MARGIN_SECONDS, report))
        arena.start_workers(1)
        arena.drain(scale.pick(60, 120))
        arena.count()
    report.notes.append(f"{rounds + 2} workers replaced; grace {grace:g} s, the slowest ended in {max(ends):.1f} s")
    report.expect(report.succeeded == len(load.tickets), "a good mission did not succeed")
    report.expect(report.dead == len(stuck.tickets), "not every stuck mission is dead")
    return report


def _ends_in(worker: Worker, seconds: float, report: Report) -> float:
    """The time that a worker takes to end."""
    began = time.monotonic()
    report.expect(worker.wait(seconds), f"a worker still runs {seconds:g} s after SIGTERM")
    return time.monotonic() - began


def wrong_clocks(scale: Scale) -> Report:
    """6. One worker's clock is ten minutes ahead, one's ten minutes behind; workers die meanwhile."""
    report = Report("6 worker clocks ten minutes off")
    rate, kills = scale.pick(100.0, 150.0), scale.pick(4, 60)
    clocks = ("fast-clock", "slow-clock")
    with Arena(report, delay=0.3) as arena:
        for clock in clocks:
            arena.start_workers(1, clock)
        with arena.load(None, per_second=rate):
            for turn in range(kills):
                time.sleep(1.0)
                arena.mark()
                arena.alive()[0].kill()
                arena.start_workers(1, clocks[turn % 2])
        # By then as many missions wait as both workers process in a minute.
        arena.drain(scale.pick(60, 300))
        arena.count()
    report.notes.append(f"{kills} SIGKILLs")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")
    return report
