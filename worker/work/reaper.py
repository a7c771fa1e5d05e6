"""The reaper: about once a second, it requeues stuck missions. Every worker has one; the ledger lets one work at a time."""

from __future__ import annotations

import logging
import threading
import time

from mission.errors import LedgerRefuses, LedgerUnavailable
from mission.store.ledger import REAP_INTERVAL_SECONDS, Ledger
from worker.observe import metrics
from worker.work import retry
from worker.work.endings import died
from worker.work.hosts import Hosts
from worker.work.retry import SUSPECT_AFTER

log = logging.getLogger("decoder.reaper")

# The number of due missions per batch, and the maximum time of one round.
DUE_COUNT = 1000
TURN_SECONDS = 0.5
# While this many messages wait, workers have enough to do, and more would only wait behind them: one smaller batch is enough.
ENOUGH_MESSAGES = 200
DUE_COUNT_THEN = 200


class Reaper:
    """A thread that reaps until it is stopped."""

    def __init__(self, ledger: Ledger, hosts: Hosts, max_attempts: int, lease_seconds: float) -> None:
        self._ledger = ledger
        self._hosts = hosts
        self._max_attempts = max_attempts
        # During a rollout, another release's worker may have a longer lease.
        self._longest_lease = 2 * lease_seconds
        self._answered = False
        self._last_heard = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reaper", daemon=True)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round."""
        self._stopped.set()

    def ledger_answers(self) -> bool:
        """Whether Redis answered in the last round."""
        return self._answered

    def round(self) -> bool:
        """Reap once; return whether the next round should follow at once, because there is much to do.

        Raises:
            LedgerUnavailable: Redis does not answer. Workers find missions that were found but not published on their own;
                dead letters are found once.
        """
        self._mend()
        self._hosts.refresh()
        found = self._ledger.reap(self._max_attempts, SUSPECT_AFTER)
        for mission_id, reason in found.dead:
            died(mission_id, reason)
        if found.leases_expired:
            log.warning("%d leases expired", found.leases_expired)
        self._ledger.wake(found.again)
        return self._publish_due()

    def _publish_due(self) -> bool:
        """Publish due missions for up to `TURN_SECONDS`; return whether to continue at once. Many workers may do so in parallel."""
        until = time.monotonic() + TURN_SECONDS
        while True:
            room = self._ledger.waiting() < ENOUGH_MESSAGES
            ids, more = self._ledger.take_due(DUE_COUNT if room else DUE_COUNT_THEN)
            self._ledger.wake(ids)
            if not (more and room):
                return False
            if time.monotonic() > until:
                return True

    def _mend(self) -> None:
        for mended in self._ledger.mend(self._longest_lease, retry.LONGEST_WAIT_SECONDS):
            metrics.SECURITY_EVENTS.labels(metrics.DAMAGED_KEY).inc()
            log.error(
                "%r was damaged (%s) and was put right; `decoder doctor --repair` finds its missions",
                mended.key,
                mended.was,
            )

    def _loop(self) -> None:
        backlog = False
        while not self._stopped.wait(0 if backlog else REAP_INTERVAL_SECONDS):
            backlog = False
            try:
                backlog = self.round()
                self._heard(None)
            except LedgerUnavailable as error:
                self._heard(error)
            except Exception as error:
                # Without a reaper, missions stay stuck forever.
                log.exception("the reaper met an unexpected %s", type(error).__name__)

    def _heard(self, problem: LedgerUnavailable | None) -> None:
        """Log a change: Redis answers, answers with errors, or does not answer."""
        if problem is None:
            heard = "the ledger answers"
        else:
            heard = "the ledger refuses" if isinstance(problem, LedgerRefuses) else "the ledger does not answer"
        if heard != self._last_heard:
            if problem is None:
                log.info("%s", heard)
            else:
                log.warning("%s: %s", heard, problem)
        self._last_heard, self._answered = heard, problem is None
