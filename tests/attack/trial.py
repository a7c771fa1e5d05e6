"""An honest submitter's missions, calm and under attack, and the promises that apply to them."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any, cast

import redis

from mission.model import State
from mission.settings import Settings
from mission.store.names import entry_key
from producer import MissionClient
from tests.attack.attackers import ANSWERS, DEAD_HOSTS, Target, main
from tests.chaos.arena import Arena
from tests.chaos.load import Load
from tests.chaos.report import Report, Scale
from tests.chaos.workers import Worker
from tests.processes import peak_memory
from tests.servers.certificates import Authority
from tests.servers.misbehaving import MisbehavingServer

MAX_MEMORY = 512 * 1024 * 1024
_WORKERS = 3
_HANDSHAKE_SECONDS = 0.06
_HEAD_START_SECONDS = 3.0
_EVERY = 8  # one honest mission in this many goes to the host with slow handshakes
_ENDED = {State.SUCCEEDED.encode(), State.FAILED.encode(), State.DEAD.encode()}


@dataclass(slots=True)
class Run:
    """One run: the honest missions' ends, their times from submission to end in ms, and the state of workers and Redis."""

    name: str
    sent: int = 0
    succeeded: int = 0
    p50: float = inf
    p95: float = inf
    died: int = 0
    redis_peak: int = 0
    worker_peak: int = 0
    attacks: dict[str, dict[str, int]] = field(default_factory=dict)  # the count of each attack's answers


@dataclass(slots=True)
class Verdict:
    """Both runs, the allowed multiple of the calm p95 (if it is judged), and the broken promises."""

    calm: Run
    attacked: Run
    allowed: float | None
    problems: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The factor by which the p95 grows under attack."""
        return self.attacked.p95 / self.calm.p95

    def judge(self) -> Verdict:
        """Note the broken promises."""
        for run in (self.calm, self.attacked):
            said = {
                f"{run.sent - run.succeeded} of {run.sent} honest missions did not succeed": run.succeeded < run.sent,
                f"{run.died} processes died": run.died,
                f"Redis held {run.redis_peak // 2**20} MiB": run.redis_peak >= MAX_MEMORY // 2,
            }
            self.problems += [f"{run.name}: {text}" for text, wrong in said.items() if wrong]
        for name, answers in self.attacked.attacks.items():
            if not answers.get(ANSWERS[name]):
                self.problems.append(f"{name}: none was answered with {ANSWERS[name]}, so nothing was shown")
        if self.allowed and self.ratio > self.allowed:
            self.problems.append(f"p95 is {self.ratio:.1f} times that of the calm run; {self.allowed:g} is allowed")
        return self


def attack(scale: Scale, attacks: Sequence[str] = tuple(ANSWERS)) -> Verdict:
    """Run the honest missions twice: calm, and under these attacks."""
    calm, attacked = _run("calm", scale), _run("under attack", scale, attacks)
    # With so few missions on a machine with other load, the p95 is a matter of luck.
    return Verdict(calm, attacked, allowed=scale.pick(None, 3.0)).judge()


@contextmanager
def _attackers() -> Iterator[tuple[Any, list[str]]]:
    """A pipe to the attackers' process, and the hosts of its servers."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs,), daemon=True)
    process.start()
    try:
        yield pipe, pipe.recv()
    finally:
        process.kill()
        process.join()


def _run(name: str, scale: Scale, attacks: Sequence[str] = ()) -> Run:
    run = Run(name)
    count, per_second = scale.pick(240, 2000), scale.pick(30.0, 40.0)
    with ExitStack() as stack:
        pipe, hosts = stack.enter_context(_attackers())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="decoder-attack-")))
        authority = Authority(folder)
        tls = authority.context("127.0.0.1")
        slow = stack.enter_context(MisbehavingServer(tls, handshake_seconds=_HANDSHAKE_SECONDS))
        values = {
            "ca_file": str(authority.ca_file),
            "allowed_schemes": "http,https",
            "concurrency": "32",
            "host_concurrency": "8",
            "deadline": "30s",
            "lease_seconds": "60s",
        }
        hosts += [f"127.0.0.1:{slow.port}", *DEAD_HOSTS]
        arena = stack.enter_context(Arena(Report(name), hooks=(), delay=0.05, worker=values, hosts=hosts))
        arena.redis.config_set("maxmemory", MAX_MEMORY)
        arena.redis_url = arena.server.login_url("worker")
        arena.start_workers(_WORKERS)
        login = arena.server.login_url("producer")
        if attacks:
            ports = tuple(map(_metrics_port, arena.workers))
            pipe.send(Target(login, arena.url_key, slow.url(""), ports, tuple(attacks)))
        client = MissionClient(Settings.from_env(redis_url=login, url_key=arena.url_key))

        def url(number: int) -> str:
            if number % 100 == 50:  # the reaper recovers it; it is not among the 95 %
                return slow.url(f"/flaky?code=503&times=3&number={number}")
            return arena.site.url(number) if number % _EVERY else slow.url(f"/slow-document?number={number}")

        if attacks:
            time.sleep(_HEAD_START_SECONDS)
        load = Load(client, url, count, per_second=per_second, chunk=2)
        with suppress(TimeoutError), load:
            if not arena.wait(lambda: len(load.tickets) == count, 2 * count / per_second, "the honest submitter"):
                raise TimeoutError
        _measure(run, arena, list(load.tickets), scale.pick(20.0, 60.0))
        run.sent = count
        if attacks:
            pipe.send("stop")
            run.attacks = {attack: {} for attack in attacks} | pipe.recv()
    return run


def _measure(run: Run, arena: Arena, ids: Sequence[str], seconds: float) -> None:
    """Wait until all have ended, up to a limit, and note the rest."""
    rows: list[list[bytes | None]] = []

    def ended() -> bool:
        with suppress(redis.RedisError), arena.redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.hmget(entry_key(id_), "state", "submitted_at", "finished_at")
            rows[:] = pipe.execute()
        return len(rows) == len(ids) and all(row[0] in _ENDED for row in rows)

    arena.wait(ended, seconds, "the honest missions")
    # An unfinished mission counts with its waiting time so far.
    now = int(time.time() * 1000)
    times = sorted(int((state in _ENDED and end) or now) - int(began or now) for state, began, end in rows)
    run.succeeded = sum(row[0] == State.SUCCEEDED.encode() for row in rows)
    if len(times) > 1:
        cuts = quantiles(times, n=20)
        run.p50, run.p95 = cuts[9], cuts[18]
    run.died = sum(worker.ended() for worker in arena.workers) + (arena.server.pid is None)
    with suppress(redis.RedisError):  # an endless script
        run.redis_peak = cast("dict[str, int]", arena.redis.info("memory"))["used_memory_peak"]
    run.worker_peak = max((peak_memory(worker.pid) for worker in arena.alive()), default=0)


def _metrics_port(worker: Worker) -> int:
    found = re.search(r"metrics on port (\d+)", worker.log.read_text())
    assert found is not None
    return int(found[1])
