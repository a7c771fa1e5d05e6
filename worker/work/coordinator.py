"""From messages to endings: one thread claims for all free slots and settles what has ended; lanes decode side by side.

A worker's missions pass through one pair of hands so: whoever competes for slots with claims and commits of its own pays for
the competition, and for a round trip a mission.

A message wakes the worker for so many missions; which ones, the ledger says, whose turn it is. A worker with free slots also looks by
itself once in a while: so a message that is lost costs a moment, and no mission.
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

# So many finished missions are settled at once; fewer wait for their neighbours for so long at most.
LOT = 32
LINGER_SECONDS = 0.01
# What will end within this time at the present pace is claimed ahead: lanes go from one mission to the next, and not all at once.
AHEAD_SECONDS = 0.05
# So often a worker whose slots stay taken looks for what is urgent, if there is a place for it beside them.
URGENT_LOOK_SECONDS = 0.05
# So often a worker with free slots looks by itself, and takes what has waited for so long: its message is lost, or with a worker that is busy.
LOOK_SECONDS = 1.0
WAITED_SECONDS = 0.2
_RETRY_SETTLE_SECONDS = 0.5
# How a mission that a message woke the worker for was not worked here: it is over already, or in other hands.
ELSEWHERE = "elsewhere"
# Or that will be tried again.
RELEASED = "released"


@dataclass(slots=True, eq=False)
class _Message:
    """How many missions are to be claimed for a message yet, how many are in hand, how the others went, and what went wrong with one."""

    wanted: int
    in_hand: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    went: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def gone(self, how: str = ELSEWHERE, error: Exception | None = None) -> None:
        """All that are wanted yet will not be claimed."""
        self.went[how] += self.wanted
        self.error = self.error or error
        self.wanted = 0
        self._look()

    def ended(self, how: str, error: Exception | None = None) -> None:
        """One that is in hand ended."""
        self.went[how] += 1
        self.error = self.error or error
        self.in_hand -= 1
        self._look()

    def _look(self) -> None:
        if not self.wanted + self.in_hand:
            self.over.set()


class Coordinator:
    """Works missions as messages come. One for a worker process; Celery's threads only wait on it."""

    def __init__(self, ledger: Ledger, pipeline: Pipeline, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._settings = settings
        self._most = settings.concurrency  # fetches side by side
        self._thread = threading.Thread(target=self._coordinate, name="coordinator", daemon=True)
        # What the coordinator hears: a message, or nothing but that it is time to look.
        self._news: SimpleQueue[_Message | None] = SimpleQueue()
        self._jobs: SimpleQueue[tuple[Claim, float]] = SimpleQueue()  # what lanes are to do
        self._urgent: SimpleQueue[tuple[Claim, float]] = SimpleQueue()  # and those beside them
        self._ended: deque[Ending] = deque()
        self._asleep = False  # no news: whatever ends first must wake it
        self._closing = False
        self._lanes = 0
        # The rest is the coordinator's own.
        self._waiting: deque[_Message] = deque()
        self._wanted = 0  # by all of these
        self._look_at = -math.inf
        # By token: a mission whose lease ran out may come again while its first attempt is still here.
        self._in_hand: dict[int, tuple[Claim, float, _Message]] = {}
        self._beside: set[int] = set()  # of these, those that take no slot
        self._urgent_at = -math.inf
        self._ahead = 0
        self._settled_at = -math.inf

    def start(self) -> None:
        """Begin to coordinate, if that has not begun."""
        if not self._thread.ident:
            self._thread.start()
            for number in range(URGENT_FETCHES):
                self._start_lane(f"urgent-{number}", self._urgent)

    def work(self, count: int) -> Counter[str]:
        """Work as many missions as a message names, those whose turn it is; returns when they are settled: how many went how.

        That is `succeeded`, `failed` or `dead`, `released` to be tried again, or `elsewhere`: so many fewer wait.

        Raises:
            LedgerUnavailable: Redis was away; workers look for the missions by themselves.
        """
        message = _Message(count)
        self._news.put(message)
        message.over.wait()
        if message.error is not None:
            raise message.error
        return message.went

    def room(self) -> int:
        """For how many more missions there is a free slot."""
        return max(0, self._most + len(self._beside) - len(self._in_hand) - self._wanted)

    def release_all(self) -> int:
        """Give back what is in hand, without using up an attempt; how many. For the end of the process."""
        self._closing = True
        claims = [claim for claim, _, _ in list(self._in_hand.values())]
        give_back(claims, self._ledger, self._settings)
        return len(claims)

    def close(self) -> None:
        """Claim nothing more."""
        self._closing = True
        self._news.put(None)

    def oldest_seconds(self) -> float:
        """For how long the oldest mission in hand has been there; 0 with none."""
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
        """Wait until something is to be done."""
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
        """Claim for free slots: as many as messages want, and now and then, as long as it fills them, what nobody was told of."""
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
            self._urgent_at = monotonic() + URGENT_LOOK_SECONDS  # what is urgent was among what could be claimed
            if len(claimed.claims) < count and not claimed.more:
                self._forget()  # nobody else waits
                return
        if self._places_beside() and monotonic() >= self._urgent_at:
            self._urgent_at = monotonic() + URGENT_LOOK_SECONDS
            claimed = self._claimed(self._places_beside(), only=Priority.HIGH)
            if isinstance(claimed, Claimed):  # messages go on to wait where it could not look: it is not for them
                self._take(claimed)

    def _forget(self, error: Exception | None = None) -> None:
        """Claim nothing for the messages that wait, nor for nobody, until it is time to look."""
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
            log.warning("missions of a schema that this release does not read: %d", len(claimed.unreadable))
        while self._lanes < min(self._most, len(self._in_hand)):
            self._start_lane(f"lane-{self._lanes}", self._jobs)
            self._lanes += 1

    def _woken(self) -> _Message:
        """Whose mission the next one is: that of the message that has waited the longest, or nobody's."""
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
        """Tell the ledger; go on trying while the leases last."""
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
