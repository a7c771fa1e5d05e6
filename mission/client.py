"""The client that apps enqueue with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from typing import Self

from mission.admission import DEFAULT_SUBMITTER, Admitter, check_options
from mission.batch import CHUNK, Batch, pieces
from mission.errors import DecoderError, LedgerUnavailable, UnknownBatch, UnknownMission, WaitTimeout
from mission.ids import check_mission_id, new_mission_id
from mission.model import MissionStatus, Outcome, Priority, State, Stats, Ticket
from mission.seal.url_keys import UrlKeyring
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.ledger import Ledger

# What is told while a connection or Redis is away is not heard: so often a waiter looks at the ledger itself.
_LOOK_SECONDS = 1.0
# Of many, those that end within this time are found at one look.
_GATHER_SECONDS = 0.05


class MissionClient:
    """Enqueues missions and follows them. Safe to share between threads.

    >>> client = MissionClient.from_env()                       # doctest: +SKIP
    >>> ticket = client.enqueue("https://docs.example.com/a")   # doctest: +SKIP
    >>> client.wait(ticket.id, timeout=60).state                # doctest: +SKIP
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger = Ledger(connect(settings), settings)
        if settings.url_key is not None:
            _ = self._keyring  # a bad one is told now

    @classmethod
    def from_env(cls) -> Self:
        """A client as the `DECODER_…` variables say.

        Raises:
            SettingsError: a variable is bad. `DECODER_URL_KEY` is missed where something is enqueued: who only follows missions needs none.
        """
        return cls(Settings.from_env())

    @cached_property
    def _keyring(self) -> UrlKeyring:
        return UrlKeyring.from_settings(self._settings)

    @cached_property
    def _admitter(self) -> Admitter:
        return Admitter(self._ledger, self._keyring, self._settings)

    def enqueue(
        self,
        url: str,
        *,
        submitter: str = DEFAULT_SUBMITTER,
        idempotency_key: str | None = None,
        exclusive: bool = False,
        expires_seconds: float | None = None,
        priority: str = Priority.NORMAL,
    ) -> Ticket:
        """Enqueue one mission. Once this returns, the mission reaches a terminal state.

        Args:
            url: what to fetch.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: the same key and URL are one mission, whether they are enqueued alone or among many.
            exclusive: the key stands for this URL alone: with another one it is a conflict. Whoever enqueues under such a key says so.
            expires_seconds: give up after so long; at most, and by default, `DECODER_MAX_AGE`.
            priority: `high`, `normal` or `low`: 8 to 4 to 1 where all three wait. A mission that is there already keeps its own.

        Raises:
            InvalidMission: the URL or an option is refused.
            QueueFull: the ledger's limit is reached.
            QuotaExceeded: the submitter's quota is used up; `retry_after` says for how long.
            StoredQuotaExceeded: the submitter's stored results take all the room that they may; a `QuotaExceeded`, too.
            IdempotencyConflict: the key stands for another URL alone.
            LedgerUnavailable: Redis does not answer; nothing is known to be accepted.
            SettingsError: there is no `DECODER_URL_KEY`.
        """
        (verdict,) = self._admitter.admit(
            [url],
            submitter=submitter,
            idempotency_key=idempotency_key,
            exclusive=exclusive,
            expires_seconds=expires_seconds,
            priority=priority,
        )
        if isinstance(verdict, DecoderError):
            raise verdict
        return verdict

    def enqueue_many(
        self,
        urls: Iterable[str],
        *,
        submitter: str = DEFAULT_SUBMITTER,
        idempotency_key: str | None = None,
        expires_seconds: float | None = None,
        priority: str = Priority.NORMAL,
    ) -> Batch:
        """Enqueue any number of URLs. The batch is iterable: a ticket or a refusal for each URL, in order.

        Args:
            urls: what to fetch.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: the same key and URL are one mission, and the same key is one batch: after an interruption, enqueue all
                of them again.
            expires_seconds: give up after so long; at most, and by default, `DECODER_MAX_AGE`.
            priority: `high`, `normal` or `low`: 8 to 4 to 1 where all three wait. A mission that is there already keeps its own.

        Raises:
            InvalidMission: an option is refused.
            LedgerUnavailable: Redis does not answer; what was enqueued before is accepted. A `batch` knows how much that is.
            SettingsError: there is no `DECODER_URL_KEY`.
        """
        batch = self.batch(
            submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires_seconds, priority=priority
        )
        for piece in pieces(urls):
            batch.verdicts.extend(batch.add(piece))
        return batch

    def batch(
        self,
        *,
        submitter: str = DEFAULT_SUBMITTER,
        idempotency_key: str | None = None,
        expires_seconds: float | None = None,
        priority: str = Priority.NORMAL,
    ) -> Batch:
        """An empty batch, to which `Batch.add` enqueues: a piece at a time of what is too long to be kept. Arguments as for `enqueue_many`.

        Raises:
            InvalidMission: an option is refused.
            SettingsError: there is no `DECODER_URL_KEY`.
        """
        check_options(submitter, idempotency_key, expires_seconds, priority)
        batch_id = new_mission_id()
        if idempotency_key is not None:
            batch_id = self._keyring.derive_batch_id(submitter, idempotency_key)
        admit = partial(
            self._admitter.admit,
            submitter=submitter,
            idempotency_key=idempotency_key,
            expires_seconds=expires_seconds,
            batch_id=batch_id,
            priority=priority,
        )
        return Batch(batch_id, admit, self.wait_for_batch)

    def status(self, mission_id: str) -> MissionStatus:
        """How a mission stands.

        Raises:
            InvalidMission: the id is none.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis does not answer.
        """
        return self._ledger.status(check_mission_id(mission_id))

    def stats(self) -> Stats:
        """How many missions stand in each state."""
        return self._ledger.stats()

    def statuses(self, mission_ids: Iterable[str]) -> Iterator[MissionStatus | None]:
        """How missions stand, in their order; None for one that the ledger does not hold (any more).

        Raises:
            InvalidMission: an id is none.
            LedgerUnavailable: Redis does not answer.
        """
        for piece in pieces(mission_ids):
            yield from self._ledger.statuses([check_mission_id(one) for one in piece])

    def missions_of(self, batch_id: str) -> Iterator[str]:
        """The ids of a batch's missions, each once, in no order.

        Raises:
            InvalidMission: the id is none.
            UnknownBatch: the ledger holds no such batch (any more).
            LedgerUnavailable: Redis does not answer.
        """
        ids = dict.fromkeys(chain.from_iterable(self._ledger.batch(check_mission_id(batch_id))))
        if not ids:
            raise UnknownBatch(batch_id)
        return iter(ids)

    def wait(self, mission_id: str, timeout: float) -> MissionStatus:
        """Wait until a mission is finished, `timeout` seconds at most.

        It hears of the end at once, on a connection to Redis that it has for so long. An outage is waited out as long as the time lasts.

        Raises:
            WaitTimeout: it is not finished; `statuses` holds how it stands.
            InvalidMission: the id is none.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis did not answer once.
        """
        (status,) = self.follow([mission_id], timeout)
        if not status.finished:
            raise WaitTimeout(timeout, [status])
        return status

    def wait_for_batch(self, batch_id: str, timeout: float) -> Counter[State | str]:
        """The same for a batch; how many of its missions ended in which state. One that was forgotten meanwhile is none of them.

        Raises:
            WaitTimeout: some are not finished; `statuses` holds how these stand.
            InvalidMission: the id is none.
            UnknownBatch: the ledger holds no such batch (any more).
            LedgerUnavailable: Redis did not answer once.
        """
        statuses = self._follow(self.missions_of(batch_id), timeout)
        states, unfinished = Counter[State | str](), list[MissionStatus]()
        for _, status in statuses:
            if status is not None:
                states[status.state] += status.finished
                unfinished += [] if status.finished else [status]
        if unfinished:
            raise WaitTimeout(timeout, unfinished)
        return states

    def follow(self, mission_ids: Iterable[str], timeout: float) -> Iterator[MissionStatus]:
        """The missions, each as it finishes; when `timeout` seconds are over, the others as they stand.

        Raises:
            InvalidMission: an id is none.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis did not answer once.
        """
        for mission_id, status in self._follow(map(check_mission_id, mission_ids), timeout):
            if status is None:
                raise UnknownMission(mission_id)
            yield status

    def outcomes(
        self,
        group: str | None = None,
        *,
        since: datetime | None = None,
        follow: bool = True,
        hold_seconds: float = 60.0,
    ) -> Iterator[Outcome]:
        """How missions end, whosever they are: in order for a reader by himself; for those of a group each to one of them, at least once.

        Whoever comes back for the next outcome has dealt with the last one:

            for outcome in client.outcomes(group="billing"):
                book(outcome)

        So deal with it in the loop's body; do not hand it on and go on. What a reader leaves by a crash, an exception or `break`, and
        what he has for longer than `hold_seconds`, another reader of the group gets, or he himself when he is back; so an outcome may come
        twice. Any number of processes and threads may read for one group, each by a call of its own, with the same `hold_seconds`. While
        Redis is away it waits; Ctrl-C and an exception end it.

        A group keeps its place in Redis, for `DECODER_LEDGER_TTL` after it was last read. It may fall behind by a million outcomes, and by
        that time: how many were dropped before it came to them is told by the `missed` of the next one. `status` tells how each
        mission stands.

        Args:
            group: the readers' name, up to 64 letters, digits and `.`, `_`, `-`; None for a reader by himself, who keeps no place.
            since: where to begin, with its zone; of a group only the first time. Without it, with what ends from now on.
            follow: go on for ever; else end where no more are there.
            hold_seconds: how long a reader may take for one outcome, 1 to 86,400.

        Raises:
            InvalidMission: an argument is refused.
            LedgerUnavailable: Redis does not answer now, or this login may not: producers, readers and operators may. Without `follow`
                also from the iterator, which otherwise waits.
        """
        return self._ledger.outcomes.follow(group, since, endless=follow, hold_seconds=hold_seconds)

    def _follow(self, mission_ids: Iterable[str], timeout: float) -> Iterator[tuple[str, MissionStatus | None]]:
        """The same of what has been checked; None for what the ledger does not hold."""
        give_up = time.monotonic() + timeout
        waiting = dict.fromkeys(mission_ids)
        seen = dict[str, MissionStatus | None]()  # how they stood last, where they are few
        with self._ledger.listen(waiting.keys()) as ends:
            while waiting:
                left, before = give_up - time.monotonic(), len(waiting)
                for piece in pieces(ends.wait(min(left, _LOOK_SECONDS)) if left > 0 else list(waiting)):
                    try:
                        found = dict(zip(piece, self._ledger.statuses(piece), strict=True))
                    except LedgerUnavailable:
                        if left > 0:
                            break
                        if not seen.keys() >= set(piece):
                            raise
                        found = seen
                    for mission_id in piece:
                        status = found[mission_id]
                        if status is None or status.finished or left <= 0:
                            del waiting[mission_id]
                            yield mission_id, status
                    seen = seen | found if len(waiting) <= CHUNK else {}
                if 0 < len(waiting) < before:
                    time.sleep(_GATHER_SECONDS)
