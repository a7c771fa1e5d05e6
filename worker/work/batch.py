"""From messages to endings: one thread claims for all free slots and settles all that has ended; lanes decode side by side."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

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
LINGER_SECONDS = 0.01
# How long missions wait for a slot before the worker says again that they are not lost.
HOLD_SECONDS = 5.0
_RETRY_SETTLE_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Message:
    """A message's missions: those that wait here, and how many of all have not ended here."""

    waiting: deque[str]
    left: int
    over: threading.Event = field(default_factory=threading.Event)
    outage: LedgerUnavailable | None = None

    def less(self, count: int = 1) -> None:
        self.left -= count
        if self.left == 0:
            self.over.set()


class Batch:
    """Works the missions of messages. One for a worker process, shared by Celery's threads."""

    def __init__(self, ledger: Ledger, pipeline: Pipeline, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._settings = settings
        self._news: SimpleQueue[_Message | Ending] = SimpleQueue()
        self._jobs: SimpleQueue[tuple[Claim, float]] = SimpleQueue()
        self._messages: deque[_Message] = deque()
        self._free = settings.concurrency
        self._suspect = False
        # By token: a mission whose lease ran out may come again while its first attempt is still here.
        self._in_hand: dict[int, tuple[Claim, float, _Message]] = {}
        self._ended: list[Ending] = []
        self._said_at = 0.0
        self._closing = False
        import os
        if os.environ.get("BIND"): os.sched_setaffinity(0, {os.getpid() % 2})
        for number in range(settings.concurrency):
            threading.Thread(target=self._lane, name=f"fetch-{number}", daemon=True).start()
        threading.Thread(target=self._coordinate, name="coordinator", daemon=True).start()

    def work(self, ids: Sequence[str]) -> None:
        message = _Message(deque(ids), len(ids))
        self._news.put(message)
        message.over.wait()
        if message.outage is not None:
            raise message.outage

    def release_all(self) -> int:
        self._closing = True
        claims = [claim for claim, _, _ in list(self._in_hand.values())]
        give_back(claims, self._ledger, self._settings)
        return len(claims)

    def close(self) -> None:
        self._closing = True

    def oldest_seconds(self) -> float:
        taken = [since for _, since, _ in list(self._in_hand.values())]
        return time.monotonic() - min(taken) if taken else 0.0

    def _lane(self) -> None:
        while True:
            claim, since = self._jobs.get()
            with (
                mission_context(claim.id, claim.attempt, claim.submitter),
                metrics.MISSIONS_IN_PROGRESS.track_inprogress(),
            ):
                ending = attempt_ended(claim, since, self._pipeline.decode(claim))
            self._news.put(ending)

    def _coordinate(self) -> None:
        while True:
            self._hear(self._news.get())
            if self._ended and len(self._in_hand) > len(self._ended):
                time.sleep(LINGER_SECONDS)
            while True:
                try:
                    self._hear(self._news.get_nowait())
                except Empty:
                    break
            if self._ended:
                self._settle()
            while self._free and self._messages and not self._closing:
                self._claim()

    def _hear(self, news: _Message | Ending) -> None:
        if isinstance(news, _Message):
            self._messages.append(news)
        else:
            self._ended.append(news)
            self._free += 1

    def _claim(self) -> None:
        asked: dict[str, _Message] = {}
        for message in self._messages:
            while message.waiting and len(asked) < self._free:
                asked[message.waiting.popleft()] = message
        while self._messages and not self._messages[0].waiting:
            self._messages.popleft()
        if not asked: return
        claimed = self._ledger.claim(
            list(asked), self._free, self._settings.lease_seconds, suspect=not self._suspect,
            suspect_after=retry.SUSPECT_AFTER, suspect_delay_seconds=retry.SUSPECT_DELAY_SECONDS,
        )
        since = time.monotonic()
        for claim in claimed.claims:
            self._in_hand[claim.token] = claim, since, asked.pop(claim.id)
            self._free -= 1
            self._suspect = self._suspect or claim.suspect
            if claim.attempt > 1 or claim.lost_leases > 0:
                metrics.REDELIVERIES.inc()
            self._jobs.put((claim, since))
        for mission_id in claimed.expired:
            died(mission_id, Reason.EXPIRED)
        for message in asked.values():
            message.less()

    def _settle(self) -> None:
        endings, self._ended = self._ended, []
        settle(endings, self._ledger, self._settings)
        for ending in endings:
            _, _, message = self._in_hand.pop(ending.claim.token)
            message.less()
