"""The watchdog: says that the worker is alive and ready, and ends it when a mission outlives its lease."""

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
# Celery's event loop beats every 2 s; silent for so long while Redis answers, it is stuck.
LOOP_SILENCE_SECONDS = 90.0
# A mission may outlive its lease by what one more round trip to the ledger takes.
OVERTIME_SECONDS = 15.0
EXIT_STUCK = 70
_STDERR = 2  # `sys.stderr` is None where it was closed


def _exit(code: int) -> None:
    logging.shutdown()
    os._exit(code)


def _exit_after(seconds: float) -> None:
    """End the process (1), with each thread's frames on stderr, unless this is called again in time. It needs no GIL."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)


class Watchdog:
    """A thread that looks once a second.

    Threads ignore Celery's time limits, so nothing can stop one that hangs but the end of the process; the ledger brings
    the missions back. What only waits for Redis is left to wait. A native call that keeps the GIL lets no thread look: so each
    look winds up a timer of the interpreter's own, which ends the process when no next one comes.

    Args:
        heartbeat: where to say so.
        oldest_seconds: for how long the oldest mission in hand has been there.
        lease_seconds: how long it may.
        ledger_answers: whether Redis answered last time.
        exit_: ends the process with a code.
        exit_after: does so after so many seconds, unless it is called again.
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
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Say that the worker takes no more work. Watching goes on: also an end can hang."""
        self._stopped.set()

    def loop_beat(self) -> None:
        """Celery's event loop turns."""
        self._loop_seen = time.monotonic()

    def look(self) -> None:
        """Look once."""
        self._exit_after(self._limit)
        answers, now = self._ledger_answers(), time.monotonic()
        if not answers:
            self._away_at = now
        # While Redis is away nothing can be settled and the loop connects anew: both have a while for it when it is back.
        back_for = now - self._away_at
        oldest = self._oldest_seconds()
        if oldest > self._limit and back_for > OVERTIME_SECONDS:
            log.critical("a mission is in hand for %.0f s, past its lease: the worker ends", oldest)
            self._exit(EXIT_STUCK)
            return
        if min(now - self._loop_seen, back_for) > LOOP_SILENCE_SECONDS:
            return  # stuck though Redis answers: the health file ages, and the probe restarts the pod
        self._heartbeat.beat(ready=answers and not self._stopped.is_set())

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(INTERVAL_SECONDS)
