"""From a message to endings: claim its missions as fetch slots come free, work them side by side, settle them together."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mission.errors import LedgerUnavailable
from mission.model import Claim, Reason
from mission.store.ledger import Ledger
from worker.observe import metrics
from worker.observe.logs import mission_context
from worker.settings import WorkerSettings
from worker.work import retry
from worker.work.endings import Ending, attempt_ended, died, give_back, settle
from worker.work.pipeline import Pipeline

log = logging.getLogger("decoder.batch")

# How long finished missions wait for their neighbours, to be settled in one round trip.
LINGER_SECONDS = 0.02
# How long a message waits for a slot before it says again that its missions are not lost.
HOLD_SECONDS = 5.0
# How long a message with missions under way waits before it looks for free slots again.
LOOK_SECONDS = 0.1
_RETRY_SETTLE_SECONDS = 0.5


class Batch:
    """Works the missions of messages. One for a worker process, shared by Celery's threads."""

    def __init__(self, ledger: Ledger, pipeline: Pipeline, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._settings = settings
        self._slots = threading.Semaphore(settings.concurrency)  # as many fetches may run side by side in this worker
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="fetch")
        self._lock = threading.Lock()
        # Held while a suspect is in hand: two of them never share a worker.
        self._suspect = threading.Lock()
        # By token: a mission whose lease ran out may come again while its first attempt is still here.
        self._in_hand: dict[int, tuple[Claim, float]] = {}
        self._closing = False

    def work(self, ids: Sequence[str]) -> None:
        """Work a message's missions; returns when each is settled or in other hands.

        Raises:
            LedgerUnavailable: Redis was away for longer than the leases; the reaper brings the missions back.
        """
        waiting = list(ids)
        running: set[Future[Ending]] = set()
        said_at = -math.inf  # the first claim comes at once: who waits unseen for a slot is taken for lost
        outage: LedgerUnavailable | None = None
        while (waiting or running) and not (self._closing and not running):
            try:
                if waiting and not self._closing:
                    taken = self._take_slots(len(waiting), 0.0 if running or said_at < 0 else HOLD_SECONDS)
                    if taken or time.monotonic() - said_at >= HOLD_SECONDS:
                        said_at = time.monotonic()
                        claims, waiting = self._claim(waiting, taken)
                        if len(claims) == 1 and not waiting and not running:
                            self._settle([self._run(*claims[0])])  # a lone mission needs no second thread
                            return
                        running |= {self._threads.submit(self._run, *claim) for claim in claims}
                if running:
                    done, running = wait(running, LINGER_SECONDS)
                    if not done:
                        # One that is slow must not keep those that wait from slots that come free meanwhile.
                        done, running = wait(running, LOOK_SECONDS if waiting else None, FIRST_COMPLETED)
                    if done:
                        self._settle([future.result() for future in done])
            except LedgerUnavailable as error:
                # What runs is finished and told all the same: nothing else takes it out of this worker's hands.
                outage, waiting = error, []
        if outage is not None:
            raise outage

    def release_all(self) -> int:
        """Give back what is in hand, without using up an attempt; how many. For the end of the process."""
        self._closing = True
        with self._lock:
            claims = [claim for claim, _ in self._in_hand.values()]
        give_back(claims, self._ledger, self._settings)
        return len(claims)

    def close(self) -> None:
        """Claim nothing more."""
        self._closing = True

    def oldest_seconds(self) -> float:
        """For how long the oldest mission in hand has been there; 0 with none."""
        with self._lock:
            taken = [since for _, since in self._in_hand.values()]
        return time.monotonic() - min(taken) if taken else 0.0

    def _take_slots(self, wanted: int, timeout: float) -> int:
        """As many slots as are free, up to `wanted`; waits for the first one, then 0 after `timeout` seconds."""
        taken = int(self._slots.acquire(timeout=timeout))
        while 0 < taken < wanted and self._slots.acquire(blocking=False):
            taken += 1
        return taken

    def _claim(self, ids: list[str], slots: int) -> tuple[list[tuple[Claim, float]], list[str]]:
        """What is in hand now, each since when, and the ids that wait for a next claim."""
        suspect = self._suspect.acquire(blocking=False)
        claimed = None
        try:
            claimed = self._ledger.claim(
                ids,
                slots,
                self._settings.lease_seconds,
                suspect=suspect,
                suspect_after=retry.SUSPECT_AFTER,
                suspect_delay_seconds=retry.SUSPECT_DELAY_SECONDS,
            )
        finally:
            for _ in range(slots - (len(claimed.claims) if claimed else 0)):
                self._slots.release()
            if suspect and not (claimed and any(claim.suspect for claim in claimed.claims)):
                self._suspect.release()
        since = time.monotonic()
        taken = {claim.token: (claim, since) for claim in claimed.claims}
        with self._lock:
            self._in_hand |= taken
        for mission_id in claimed.expired:
            died(mission_id, Reason.EXPIRED)
        if claimed.unreadable:
            log.warning("missions of a schema that this release does not read: %d", len(claimed.unreadable))
        for _ in range(sum(claim.attempt > 1 or claim.lost_leases > 0 for claim in claimed.claims)):
            metrics.REDELIVERIES.inc()
        return list(taken.values()), claimed.held

    def _run(self, claim: Claim, since: float) -> Ending:
        try:
            with (
                mission_context(claim.id, claim.attempt, claim.submitter),
                metrics.MISSIONS_IN_PROGRESS.track_inprogress(),
            ):
                return attempt_ended(claim, since, self._pipeline.decode(claim))
        finally:
            self._slots.release()
            if claim.suspect:
                self._suspect.release()

    def _settle(self, endings: list[Ending]) -> None:
        """Tell the ledger; go on trying while the leases last."""
        give_up = min(ending.since for ending in endings) + self._settings.lease_seconds
        try:
            while True:
                try:
                    settle(endings, self._ledger, self._settings)
                    return
                except LedgerUnavailable:
                    if time.monotonic() + _RETRY_SETTLE_SECONDS > give_up:
                        raise
                    time.sleep(_RETRY_SETTLE_SECONDS)
        finally:
            with self._lock:
                for ending in endings:
                    self._in_hand.pop(ending.claim.token, None)
