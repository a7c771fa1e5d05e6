"""Several worker processes under one command, each bound to its own core if possible.

Threads that run Python on several cores hand the interpreter's lock from core to core; a process that stays on one core does
the same work with less CPU (`benchmarks/README.md`).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time

from mission.errors import SettingsError
from mission.hardening import end_with_parent
from mission.settings import PREFIX
from worker.observe import health, logs
from worker.settings import WorkerSettings
from worker.work import cgroup

log = logging.getLogger("decoder.processes")

# Delay before a restart: a process that dies at once must not keep a core busy.
RESTART_SECONDS = 1.0
# The exit code for bad settings: a restart does not help.
REFUSED = 2
# The parent's own share of the cgroup's memory; 25 MiB were measured.
PARENT_BYTES = 32 * 1024**2
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_LAST_PORT = 65535


def split(count: int, settings: WorkerSettings) -> None:
    """Fork worker processes; returns in each of them, with its own port, health file and memory in the environment.

    In the calling process, the parent, it never returns: the parent forwards signals, restarts processes that died, and exits when
    all have ended. The exit code is 0 after an orderly end, 2 if a process refused its settings, else 1. Call it before any thread
    starts.

    Raises:
        SettingsError: there are not enough ports.
    """
    if settings.metrics_port + count - 1 > _LAST_PORT:
        raise SettingsError(
            f"{PREFIX}METRICS_PORT: got {settings.metrics_port}; use one that leaves a port for each of {count} processes, "
            f"up to {_LAST_PORT - count + 1}"
        )
    logs.configure(settings.log_level, settings.log_format, threads=False)
    if settings.health_file is not None:
        health.announce(settings.health_file, count)
    parent = os.getpid()
    heard = {signal.SIGCHLD, *(number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN)}
    signal.signal(signal.SIGCHLD, lambda *_: None)  # on some systems sigwait does not return an ignored signal
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    running: dict[int, int] = {}  # process to its number
    missing = list(range(count))
    ending, code = False, 0
    while running or missing:
        for number in missing:
            if (pid := os.fork()) == 0:
                end_with_parent()
                if os.getppid() != parent:  # the parent ended before `end_with_parent` took effect
                    os._exit(1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
                _become(number, count, settings)
                return
            running[pid] = number
        missing = []
        if signal.sigwait(heard) != signal.SIGCHLD:
            ending = True
        for number, left in _ended(running):
            if left == REFUSED:
                ending, code = True, REFUSED
            elif not ending:
                log.error("worker process %d ended (exit code %d); restarting it", number, left)
                missing.append(number)
            elif left not in (0, -signal.SIGTERM):  # a process that is still starting dies of SIGTERM itself
                log.error("worker process %d ended (exit code %d)", number, left)
                code = code or 1
        if ending:
            missing = []
            for pid in running:
                os.kill(pid, signal.SIGTERM)
        elif missing:
            time.sleep(RESTART_SECONDS)
    raise SystemExit(code)


def _ended(running: dict[int, int]) -> list[tuple[int, int]]:
    """Remove processes that ended since the last call from `running`, and return their numbers and exit codes.

    In a container this process is process 1, which also inherits orphans of others: it reaps them and reports nothing.
    """
    found = []
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        if (number := running.pop(pid, None)) is not None:
            found.append((number, os.waitstatus_to_exitcode(status)))
    return found


def _become(number: int, count: int, settings: WorkerSettings) -> None:
    """Set the environment and the core of one worker process."""
    if settings.metrics_port:
        os.environ[f"{PREFIX}METRICS_PORT"] = str(settings.metrics_port + number)
    if settings.health_file is not None:
        os.environ[f"{PREFIX}HEALTH_FILE"] = str(health.file_of(settings.health_file, number))
    if shared := cgroup.memory_limit():
        share = max(1, (shared - PARENT_BYTES) // count)
        os.environ[f"{PREFIX}MEMORY"] = str(min(settings.memory or share, share))
    if (core := core_of(number, count)) is not None:
        os.sched_setaffinity(0, {core})


def core_of(number: int, count: int) -> int | None:
    """The core for one of `count` processes; None if they cannot each have their own.

    They cannot if there are fewer cores than processes, or if a cgroup's quota is below the number of cores: then other containers
    share the cores, and all would bind to the same first ones.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    free = count <= len(cores) and (cgroup.cores() or math.inf) >= len(cores)
    return cores[number] if free else None
