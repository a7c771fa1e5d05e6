"""The reaper: about once a second, publish again what is stuck. Every worker has one; the ledger lets one at a time work."""

from __future__ import annotations

import logging
import threading

from mission.errors import LedgerUnavailable
from mission.store.ledger import REAP_INTERVAL_SECONDS, Ledger
from mission.store.messages import Publisher
from mission.store.names import QUEUE
from worker.work.endings import died
from worker.work.hosts import Hosts

log = logging.getLogger("decoder.reaper")


class Reaper:
    """A thread that reaps until it is stopped."""

    def __init__(self, ledger: Ledger, publisher: Publisher, hosts: Hosts, max_attempts: int) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._hosts = hosts
        self._max_attempts = max_attempts
        self._answered: bool | None = None
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
        return bool(self._answered)

    def round(self) -> None:
        """Reap once.

        Raises:
            LedgerUnavailable: Redis does not answer. What was found and not published is found again as lost; the dead are
                found once.
        """
        self._hosts.refresh()
        found = self._ledger.reap(QUEUE, self._max_attempts)
        for mission_id, reason in found.dead:
            died(mission_id, reason)
        if found.leases_expired or found.messages_lost:
            log.warning("%d leases expired, %d messages lost", found.leases_expired, found.messages_lost)
        # A mission whose worker died is published alone: its neighbours must not die with it.
        self._publisher.publish(found.alone, per_message=1)
        self._publisher.publish(found.batch)

    def _loop(self) -> None:
        while not self._stopped.wait(REAP_INTERVAL_SECONDS):
            try:
                self.round()
                self._heard(True)
            except LedgerUnavailable as error:
                self._heard(False, str(error))
            except Exception as error:
                # A reaper that dies leaves missions stuck for ever.
                log.exception("the reaper met an unexpected %s", type(error).__name__)

    def _heard(self, answered: bool, problem: str = "") -> None:  # noqa: FBT001 (the fact itself)
        if answered and not self._answered:
            log.info("the ledger answers")
        elif not answered and self._answered is not False:
            log.warning("the ledger does not answer: %s", problem)
        self._answered = answered
