"""Followers of the outcomes get SIGKILL, while workers die as well and Redis goes away in between."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.chaos.arena import Arena
from tests.chaos.report import Report, Scale
from tests.chaos.workers import ROOT
from worker.local.stack import stack_environment

GROUP = "followers"
_KILL_INTERVAL_SECONDS = 0.5


class Followers:
    """Processes that follow the outcomes as one group; a context manager that kills them at the end."""

    def __init__(self, arena: Arena, count: int) -> None:
        self._arena = arena
        self._count = count
        self._files: list[Path] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self.start()
        self._arena.wait(lambda: all(file.exists() for file in self._files), 30, "the followers")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def start(self) -> None:
        """Start another one."""
        self._files.append(self._arena.folder / f"follower-{len(self._files)}")
        env = stack_environment(self._arena.producer_values()) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.chaos.follower", GROUP, str(self._files[-1])]
        self._running.append(subprocess.Popen(command, env=env, cwd=self._arena.folder))

    def kill_one(self, dice: random.Random) -> None:
        """Kill one, as a crash would."""
        process = self._running.pop(dice.randrange(len(self._running)))
        process.kill()
        process.wait()

    def told(self) -> list[str]:
        """The missions that they received, each as often as it came; a line that was cut off does not count."""
        texts = [file.read_text() for file in self._files if file.exists()]
        whole = [line.split() for text in texts for line in text.rpartition("\n")[0].splitlines()]
        return [parts[0] for parts in whole if len(parts) == 3]


def kill_followers(scale: Scale) -> Report:
    """12. Readers of a group get SIGKILL every half second, a worker now and then, Redis once; each end is delivered at least once."""
    report = Report("12 SIGKILL of followers")
    count, seconds, readers = scale.pick(400, 6000), scale.pick(6.0, 60.0), scale.pick(3, 6)
    dice = random.Random(1)
    with ExitStack() as stack:
        arena = stack.enter_context(Arena(report, delay=0.2, worker={"max_attempts": "20"}))
        followers = stack.enter_context(Followers(arena, readers))
        arena.start_workers(2)
        kills = 0
        with arena.load(count, per_second=count / seconds) as load:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                arena.mark()
                followers.kill_one(dice)
                followers.start()
                kills += 1
                if kills % 4 == 0:
                    dice.choice(arena.alive()).kill()
                    arena.start_worker()
                if kills == scale.pick(6, 60):
                    arena.server.kill()
                    arena.server.start()
                time.sleep(_KILL_INTERVAL_SECONDS)
        arena.drain(scale.pick(60, 300))
        arena.count()
        wanted = load.tickets.keys()
        arena.wait(lambda: wanted <= set(followers.told()), scale.pick(30, 60), "the last outcomes to be told")
        told = followers.told()
        # Redis was killed: an admission may have no reply although its mission exists and ends.
        ended = {one.id for one in arena.client().statuses(set(told)) if one and one.finished}
    untold, invented = len(wanted - set(told)), len(set(told) - ended)
    report.notes.append(f"{kills} SIGKILLs of readers; {len(told) - len(set(told))} of {len(told)} were told again")
    report.expect(not untold, f"{untold} ends were never told")
    report.expect(not invented, f"{invented} were told that have not ended")
    report.expect(report.succeeded == count, "not every mission succeeded")
    return report
