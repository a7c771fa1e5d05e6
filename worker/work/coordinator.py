"""From messages to endings: one thread claims for all free slots and settles what has ended; lanes decode side by side.

A worker's missions pass through one pair of hands so: whoever competes for slots with claims and commits of its own pays for
the competition, and for a round trip a mission.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, sleep

from mission.errors import LedgerUnavailable
from mission.model import Claim, Reason, State
from mission.store.changes import Claimed
from mission.store.ledger import Ledger
from worker.observe import metrics
from worker.observe.logs import mission_context
from worker.settings import WorkerSettings
from worker.work import retry
from worker.work.endings import Ending, attempt_ended, died, give_back, settle
from worker.work.pipeline import Pipeline

log = logging.getLogger("decoder.coordinator")

# So many finished missions are settled at once; fewer wait for their neighbours for so long at most.
LOT = 32
LINGER_SECONDS = 0.01
# What will end within this time at the present pace is claimed ahead: lanes go from one mission to the next, and not all at once.
AHEAD_SECONDS = 0.05
# How long missions wait for a slot before the worker says again that they are not lost.
HOLD_SECONDS = 5.0
# So many ids one claim takes.
_MOST_IDS = 1024
_RETRY_SETTLE_SECONDS = 0.5
# How a mission of a message went that was not worked here: it is over already, or in other hands.
ELSEWHERE = "elsewhere"
# Or that will be tried again.
RELEASED = "released"


@dataclass(slots=True, eq=False)
class _Message:
    """How many of a message's missions are not over here, how the others went, and what went wrong with one."""

    left: int
    over: threading.Event = field(default_factory=threading.Event)
    went: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def less_one(self, how: str = ELSEWHERE, error: Exception | None = None) -> None:
        """One of its missions ended, or is in other hands."""
        self.went[how] += 1
        self.error = self.error or error
        self.left -= 1
        if not self.left:
            self.over.set()


class Coordinator:
    """Works the missions of messages. One for a worker process; Celery's threads only wait on it."""

    def __init__(self, ledger: Ledger, pipeline: Pipeline, settings: WorkerSettings) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._settings = settings
        self._most = settings.concurrency  # fetches side by side
        # What the coordinator hears: missions of a message, or nothing but that it is time to look.
        self._news: SimpleQueue[tuple[_Message, Sequence[str]] | None] = SimpleQueue()
        self._jobs: SimpleQueue[tuple[Claim, float] | None] = SimpleQueue()
        self._ended: deque[Ending] = deque()
        self._asleep = False  # no news: whatever ends first must wake it
        self._closing = False
        self._lanes = 0
        # The rest is the coordinator's own.
        self._waiting: deque[tuple[str, _Message]] = deque()
        # By token: a mission whose lease ran out may come again while its first attempt is still here.
        self._in_hand: dict[int, tuple[Claim, float, _Message]] = {}
        self._ahead = 0
        self._settled_at = -math.inf
        self._say_at = -math.inf

    def start(self) -> None:
        """Begin to coordinate."""
        threading.Thread(target=self._coordinate, name="coordinator", daemon=True).start()

    def work(self, ids: Sequence[str]) -> Counter[str]:
        """Work a message's missions; returns when each is settled or in other hands: how many went how.

        That is `succeeded`, `failed` or `dead`, `released` to be tried again, or `elsewhere`.

        Raises:
            LedgerUnavailable: Redis was away; the reaper brings the missions back.
        """
        message = _Message(len(ids))
        self._news.put((message, ids))
        message.over.wait()
        if message.error is not None:
            raise message.error
        return message.went

    def room(self) -> int:
        """For how many more missions there is a free slot."""
        return max(0, self._most - len(self._in_hand) - len(self._waiting))

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
                while self._waiting:
                    self._waiting.popleft()[1].less_one()
            self._claim()

    def _listen(self) -> None:
        """Wait until something is to be done."""
        self._asleep = True
        if not self._ended:
            self._hear(max(0.0, self._say_at - monotonic()) if self._waiting else None)
        self._asleep = False
        until = monotonic() + LINGER_SECONDS
        while 0 < len(self._ended) < min(LOT, len(self._in_hand)) and (left := until - monotonic()) > 0:
            self._hear(left)

    def _hear(self, seconds: float | None) -> None:
        try:
            news = self._news.get(timeout=seconds)
            while True:
                if news is not None:
                    message, ids = news
                    self._waiting += [(id_, message) for id_ in ids]
                news = self._news.get_nowait()
        except Empty:
            pass

    def _claim(self) -> None:
        """Claim for each free slot, as long as missions wait."""
        while self._waiting and not self._closing:
            free = max(0, self._most + self._ahead - len(self._in_hand))
            due = monotonic() >= self._say_at
            if not free and not due:
                return
            if due:  # all that wait are asked for: those that find no slot are not lost
                self._say_at = monotonic() + HOLD_SECONDS
            asked = self._next(_MOST_IDS if due else free)
            try:
                self._take(self._claimed(list(asked), free), asked)
            except Exception as error:  # noqa: BLE001 (whoever waits for the message raises it)
                for message in asked.values():
                    message.less_one(error=error)

    def _next(self, count: int) -> dict[str, _Message]:
        """So many of those that wait, each with its message."""
        asked: dict[str, _Message] = {}
        while self._waiting and len(asked) < count:
            mission_id, message = self._waiting.popleft()
            if mission_id in asked:
                message.less_one()  # it came twice
            else:
                asked[mission_id] = message
        return asked

    def _claimed(self, ids: list[str], free: int) -> Claimed:
        return self._ledger.claim(
            ids,
            free,
            self._settings.lease_seconds,
            # Two suspects never share a worker.
            suspect=not any(claim.suspect for claim, _, _ in self._in_hand.values()),
            suspect_after=retry.SUSPECT_AFTER,
            suspect_delay_seconds=retry.SUSPECT_DELAY_SECONDS,
        )

    def _take(self, claimed: Claimed, asked: dict[str, _Message]) -> None:
        since = monotonic()
        for claim in claimed.claims:
            self._in_hand[claim.token] = claim, since, asked.pop(claim.id)
            if claim.attempt > 1 or claim.lost_leases > 0:
                metrics.REDELIVERIES.inc()
        while self._lanes < min(self._most, len(self._in_hand)):
            threading.Thread(target=self._lane, name=f"lane-{self._lanes}", daemon=True).start()
            self._lanes += 1
        for claim in claimed.claims:
            self._jobs.put((claim, since))
        self._waiting.extendleft((id_, asked.pop(id_)) for id_ in reversed(claimed.held))
        for mission_id in claimed.expired:
            died(mission_id, Reason.EXPIRED)
            asked.pop(mission_id).less_one(State.DEAD)
        if claimed.unreadable:
            log.warning("missions of a schema that this release does not read: %d", len(claimed.unreadable))
        for message in asked.values():
            message.less_one()

    def _lane(self) -> None:
        while (job := self._jobs.get()) is not None:
            claim, since = job
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
            state = states.get(ending.claim.token)
            message.less_one(ELSEWHERE if state is None else state if state.terminal else RELEASED, error)

    def _told(self, endings: list[Ending]) -> tuple[dict[int, State | None], Exception | None]:
        give_up = min(ending.since for ending in endings) + self._settings.lease_seconds
        while True:
            try:
                return settle(endings, self._ledger, self._settings), None
            except LedgerUnavailable as error:
                if monotonic() + _RETRY_SETTLE_SECONDS > give_up:
                    return {}, error
                sleep(_RETRY_SETTLE_SECONDS)
