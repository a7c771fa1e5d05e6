"""The watchdog: reports that the worker is alive and ready, and ends it when a mission outlives its lease."""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import threading
import time
from collections.abc import Callable

from worker.observe.health import Heartbeat

log = logging.getLogger("decoder.watchdog")

INTERVAL_SECONDS = 1.0
# Celery's event loop beats every 2 s; if it is silent for this long while Redis answers, it is stuck.
LOOP_SILENCE_SECONDS = 90.0
# A mission may outlive its lease by the time of one more round trip to the ledger.
OVERTIME_SECONDS = 15.0
EXIT_STUCK = 70
_STDERR = 2  # `sys.stderr` is None if it was closed


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)


def _exit_after(seconds: float) -> None:
    """End the process with exit code 1 and each thread's frames on stderr, unless called again in time. It needs no GIL."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)


class Watchdog:
    """A thread that checks the worker once a second.

    Threads ignore Celery's time limits, so only the end of the process stops one that hangs; the ledger then returns its
    missions. The watchdog leaves missions alone that only wait for Redis. A native call that keeps the GIL blocks the watchdog
    too. So each check restarts a timer in the interpreter, which ends the process if the next check does not come.

    Args:
        heartbeat: the health file.
        oldest_seconds: returns the age of the oldest in-flight mission.
        lease_seconds: the age limit, without the overtime.
        ledger_answers: whether Redis answered last time.
        exit_: ends the process with a code.
        exit_after: ends it after a number of seconds, unless called again.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        oldest_seconds: Callable[[], float],
        lease_seconds: float,
        ledger_answers: Callable[[], bool],
        exit_: Callable[[int], None] = _exit,
        exit_after: Callable[[float], None] = _exit_after,
    ) -> None:
        self._heartbeat = heartbeat
        self._oldest_seconds = oldest_seconds
        self._limit = lease_seconds + OVERTIME_SECONDS
        self._ledger_answers = ledger_answers
        self._exit = exit_
        self._exit_after = exit_after
        self._loop_seen = time.monotonic()
        self._away_at = -math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Report that the worker takes no more work. Watching continues, since a shutdown can hang too."""
        self._stopped.set()

    def loop_beat(self) -> None:
        """Record a turn of Celery's event loop."""
        self._loop_seen = time.monotonic()

    def look(self) -> None:
        """Check once."""
        self._exit_after(self._limit)
        answers, now = self._ledger_answers(), time.monotonic()
        if not answers:
            self._away_at = now
        # While Redis is unavailable, no mission can be settled and the loop reconnects: both get some time after its return.
        back_for = now - self._away_at
        oldest = self._oldest_seconds()
        if oldest > self._limit and back_for > OVERTIME_SECONDS:
            log.critical("a mission has been in flight for %.0f s, longer than its lease: ending the worker", oldest)
            self._exit(EXIT_STUCK)
            return
        if min(now - self._loop_seen, back_for) > LOOP_SILENCE_SECONDS:
            return  # stuck though Redis answers: the health file ages, and the probe restarts the pod
        self._heartbeat.beat(ready=answers and not self._stopped.is_set())

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(INTERVAL_SECONDS)
