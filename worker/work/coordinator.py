"""The coordinator: one thread claims missions for all free slots and settles ended ones; lanes decode in parallel.

A single thread does this because separate claims and commits would compete with each other, and would cost a round trip
for each mission.

A message wakes the worker for a number of missions, and the ledger decides which ones are next. A worker with free slots also
checks the ledger regularly, so that a lost message costs a short delay but no mission.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, sleep

from mission.errors import LedgerUnavailable
from mission.model import Claim, Priority, Reason, State
from mission.store.changes import Claimed
from mission.store.ledger import Ledger
from worker.observe import metrics
from worker.observe.logs import mission_context
from worker.settings import URGENT_FETCHES, WorkerSettings
from worker.work import retry
from worker.work.endings import Ending, attempt_ended, died, give_back, settle
from worker.work.pipeline import Pipeline

log = logging.getLogger("decoder.coordinator")

# The worker settles up to LOT finished missions at once; fewer wait for others for LINGER_SECONDS at most.
LOT = 32
LINGER_SECONDS = 0.01
# The worker claims ahead as many missions as will end within this time at the current pace: so no lane waits for a claim.
AHEAD_SECONDS = 0.05
# A worker without free slots checks for urgent missions this often, if an additional slot is free.
URGENT_LOOK_SECONDS = 0.05
# A worker with free slots checks the ledger every LOOK_SECONDS. It takes missions that have waited for WAITED_SECONDS: their message is
# lost, or is with a busy worker.
LOOK_SECONDS = 1.0
WAITED_SECONDS = 0.2
_RETRY_SETTLE_SECONDS = 0.5
# The result for a mission of a message that this worker did not process: it has ended, or another worker has it.
ELSEWHERE = "elsewhere"
# The result for a mission that will be retried.
RELEASED = "released"


@dataclass(slots=True, eq=False)
class _Message:
    """The state of a message: the missions still to claim, those in flight, the results of the others, and an error if there was one."""

    wanted: int
    in_hand: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    went: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def gone(self, how: str = ELSEWHERE, error: Exception | None = None) -> None:
        """Record that the remaining missions will not be claimed."""
        self.went[how] += self.wanted
        self.error = self.error or error
        self.wanted = 0
        self._look()

    def ended(self, how: str, error: Exception | None = None) -> None:
        """Record that an in-flight mission ended."""
        self.went[how] += 1
        self.error = self.error or error
        self.in_hand -= 1
        self._look()

    def _look(self) -> None:
        if not self.wanted + self.in_hand:
            self.over.set()


class Coordinator:
    """Processes missions as messages arrive. One per worker process; Celery's threads only wait for it."""

    def __init__(self, ledger: Ledger, pipeline: Pipeline, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._settings = settings
        self._most = settings.concurrency  # parallel fetches
        self._thread = threading.Thread(target=self._coordinate, name="coordinator", daemon=True)
        # Input of the coordinator: a message, or None as a signal to check again.
        self._news: SimpleQueue[_Message | None] = SimpleQueue()
        self._jobs: SimpleQueue[tuple[Claim, float]] = SimpleQueue()  # work for the lanes
        self._urgent: SimpleQueue[tuple[Claim, float]] = SimpleQueue()  # work for the urgent lanes
        self._ended: deque[Ending] = deque()
        self._asleep = False  # the coordinator waits: the first lane that ends must wake it
        self._closing = False
        self._lanes = 0
        # Only the coordinator's thread uses the rest.
        self._waiting: deque[_Message] = deque()
        self._wanted = 0  # by all waiting messages
        self._look_at = -math.inf
        # By token: a mission whose lease expired may return while its first attempt is still running.
        self._in_hand: dict[int, tuple[Claim, float, _Message]] = {}
        self._beside: set[int] = set()  # tokens of in-flight missions that take no normal slot
        self._urgent_at = -math.inf
        self._ahead = 0
        self._settled_at = -math.inf

    def start(self) -> None:
        """Start, if not yet started."""
        if not self._thread.ident:
            self._thread.start()
            for number in range(URGENT_FETCHES):
                self._start_lane(f"urgent-{number}", self._urgent)

    def work(self, count: int) -> Counter[str]:
        """Process `count` missions, those that are next; return their results, counted, when all are settled.

        The results are `succeeded`, `failed` or `dead`, `released` for a retry, or `elsewhere` if fewer were waiting.

        Raises:
            LedgerUnavailable: Redis was unavailable; workers find the missions on their own.
        """
        message = _Message(count)
        self._news.put(message)
        message.over.wait()
        if message.error is not None:
            raise message.error
        return message.went

    def room(self) -> int:
        """The number of free slots."""
        return max(0, self._most + len(self._beside) - len(self._in_hand) - self._wanted)

    def release_all(self) -> int:
        """Release in-flight missions without counting an attempt, and return how many. For shutdown."""
        self._closing = True
        claims = [claim for claim, _, _ in list(self._in_hand.values())]
        give_back(claims, self._ledger, self._settings)
        return len(claims)

    def close(self) -> None:
        """Stop claiming."""
        self._closing = True
        self._news.put(None)

    def oldest_seconds(self) -> float:
        """The age of the oldest in-flight mission in this worker, in seconds; 0 without one."""
        taken = [since for _, since, _ in list(self._in_hand.values())]
        return monotonic() - min(taken) if taken else 0.0

    def _coordinate(self) -> None:
        while True:
            self._listen()
            if self._ended:
                self._settle()
            if self._closing:
                self._forget()
            else:
                self._claim()

    def _listen(self) -> None:
        """Wait until there is something to do."""
        self._asleep = True
        if not self._ended:
            look_at = self._look_at if self._free() else self._urgent_at if self._places_beside() else math.inf
            self._hear(None if self._closing or look_at == math.inf else max(0.0, look_at - monotonic()))
        self._asleep = False
        until = monotonic() + LINGER_SECONDS
        while 0 < len(self._ended) < min(LOT, len(self._in_hand)) and (left := until - monotonic()) > 0:
            self._hear(left)

    def _hear(self, seconds: float | None) -> None:
        try:
            news = self._news.get(timeout=seconds)
            while True:
                if news is not None:
                    self._waiting.append(news)
                    self._wanted += news.wanted
                news = self._news.get_nowait()
        except Empty:
            pass

    def _free(self) -> int:
        return max(0, self._most + self._ahead + len(self._beside) - len(self._in_hand))

    def _places_beside(self) -> int:
        return URGENT_FETCHES - len(self._beside)

    def _claim(self) -> None:
        """Claim for free slots: as many missions as messages announce, and regularly those without a message, while slots are free."""
        while free := self._free():
            looks = not self._wanted
            if looks and monotonic() < self._look_at:
                return
            count = min(free, self._wanted or free)
            claimed = self._claimed(count, WAITED_SECONDS if looks else None)
            if isinstance(claimed, Exception):
                self._forget(claimed)
                return
            self._take(claimed)
            self._urgent_at = monotonic() + URGENT_LOOK_SECONDS  # that claim included urgent missions
            if len(claimed.claims) < count and not claimed.more:
                self._forget()  # no other mission is waiting
                return
        if self._places_beside() and monotonic() >= self._urgent_at:
            self._urgent_at = monotonic() + URGENT_LOOK_SECONDS
            claimed = self._claimed(self._places_beside(), only=Priority.HIGH)
            if isinstance(claimed, Claimed):  # after an error, messages keep waiting: this claim was not for them
                self._take(claimed)

    def _forget(self, error: Exception | None = None) -> None:
        """Give up on the waiting messages, and claim nothing until the next regular check."""
        self._look_at = monotonic() + LOOK_SECONDS
        self._wanted = 0
        while self._waiting:
            self._waiting.popleft().gone(error=error)

    def _claimed(self, count: int, waited: float | None = None, only: Priority | None = None) -> Claimed | Exception:
        try:
            return self._ledger.claim(
                count,
                self._settings.lease_seconds,
                waited_seconds=waited,
                only=only,
                # Two suspects never share a worker.
                suspect=not any(claim.suspect for claim, _, _ in self._in_hand.values()),
                suspect_after=retry.SUSPECT_AFTER,
                suspect_delay_seconds=retry.SUSPECT_DELAY_SECONDS,
            )
        except Exception as error:
            if not isinstance(error, LedgerUnavailable):
                log.exception("the coordinator met an unexpected %s", type(error).__name__)
            return error

    def _take(self, claimed: Claimed) -> None:
        since = monotonic()
        for claim in claimed.claims:
            self._in_hand[claim.token] = claim, since, self._woken()
            if claim.attempt > 1 or claim.lost_leases > 0:
                metrics.REDELIVERIES.inc()
            if claim.priority == Priority.HIGH and self._places_beside():
                self._beside.add(claim.token)
                self._urgent.put((claim, since))
            else:
                self._jobs.put((claim, since))
        for mission_id in claimed.expired:
            died(mission_id, Reason.EXPIRED)
            self._woken().ended(State.DEAD)
        if claimed.unreadable:
            log.warning("missions with a schema that this release cannot read: %d", len(claimed.unreadable))
        while self._lanes < min(self._most, len(self._in_hand)):
            self._start_lane(f"lane-{self._lanes}", self._jobs)
            self._lanes += 1

    def _woken(self) -> _Message:
        """The message that the next mission counts for: the message that has waited longest, or a new one if none waits."""
        if not self._waiting:
            return _Message(0, in_hand=1)
        message = self._waiting[0]
        message.wanted -= 1
        message.in_hand += 1
        self._wanted -= 1
        if not message.wanted:
            self._waiting.popleft()
        return message

    def _start_lane(self, name: str, jobs: SimpleQueue[tuple[Claim, float]]) -> None:
        threading.Thread(target=self._lane, args=(jobs,), name=name, daemon=True).start()

    def _lane(self, jobs: SimpleQueue[tuple[Claim, float]]) -> None:
        while True:
            claim, since = jobs.get()
            with (
                mission_context(claim.id, claim.attempt, claim.submitter),
                metrics.MISSIONS_IN_PROGRESS.track_inprogress(),
            ):
                ending = attempt_ended(claim, since, self._pipeline.decode(claim))
            self._ended.append(ending)
            if self._asleep or len(self._ended) >= min(LOT, len(self._in_hand)):
                self._news.put(None)

    def _settle(self) -> None:
        """Report ended missions to the ledger, with retries until the leases expire."""
        endings = [self._ended.popleft() for _ in range(len(self._ended))]
        states, error = self._told(endings)
        now = monotonic()
        pace = len(endings) / max(now - self._settled_at, LINGER_SECONDS)
        self._ahead = min(int(pace * AHEAD_SECONDS), self._most)
        self._settled_at = now
        for ending in endings:
            _, _, message = self._in_hand.pop(ending.claim.token)
            self._beside.discard(ending.claim.token)
            state = states.get(ending.claim.token)
            message.ended(ELSEWHERE if state is None else state if state.terminal else RELEASED, error)

    def _told(self, endings: list[Ending]) -> tuple[dict[int, State | None], Exception | None]:
        give_up = min(ending.since for ending in endings) + self._settings.lease_seconds
        while True:
            try:
                return settle(endings, self._ledger, self._settings), None
            except LedgerUnavailable as error:
                if monotonic() + _RETRY_SETTLE_SECONDS > give_up:
                    return {}, error
                sleep(_RETRY_SETTLE_SECONDS)
