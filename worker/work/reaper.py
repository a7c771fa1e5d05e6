"""The reaper: about once a second, publish again what is stuck. Every worker has one; the ledger lets one at a time work."""

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

# Of missions that are due so many are taken at a time, for so long in one go.
DUE_COUNT = 1000
TURN_SECONDS = 0.5
# While so many messages wait, workers have enough to do, and who is published now waits behind them: fewer are taken, and once.
ENOUGH_MESSAGES = 200
DUE_COUNT_THEN = 200


class Reaper:
    """A thread that reaps until it is stopped."""

    def __init__(self, ledger: Ledger, hosts: Hosts, max_attempts: int, lease_seconds: float) -> None:
        self._ledger = ledger
        self._hosts = hosts
        self._max_attempts = max_attempts
        # While a release is rolled out, another worker's may be longer.
        self._longest_lease = 2 * lease_seconds
        self._answered = False
        self._last_heard = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reaper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way."""
        self._stopped.set()

    def ledger_answers(self) -> bool:
        """Whether Redis answered in the last round."""
        return self._answered

    def round(self) -> bool:
        """Reap once; whether there is so much to do that the next round is to follow at once.

        Raises:
            LedgerUnavailable: Redis does not answer. What was found and not published waits until workers look by themselves; the
                dead are found once.
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
        """Publish what is due, for a while; whether to go on at once. Any number of workers may do so side by side."""
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
                "%r was damaged (%s) and was put right; `decoder doctor --repair` finds the missions that it held",
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
                # A reaper that dies leaves missions stuck for ever.
                log.exception("the reaper met an unexpected %s", type(error).__name__)

    def _heard(self, problem: LedgerUnavailable | None) -> None:
        """Say what changed: Redis answers, answers with errors, or does not answer."""
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
