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

# Notices sent during an outage are lost, so a waiter also reads the ledger at this interval.
_LOOK_SECONDS = 1.0
# Missions that end within this time are found by one read.
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
            _ = self._keyring  # report a bad key now

    @classmethod
    def from_env(cls) -> Self:
        """A client configured by the `DECODER_…` variables.

        Raises:
            SettingsError: a variable is invalid. Only enqueueing needs `DECODER_URL_KEY`, and reports it if it is missing.
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
            url: the URL to fetch.
            submitter: the name that quotas and recipients depend on.
            idempotency_key: the same key and URL are one mission, whether enqueued singly or in a batch.
            exclusive: the key stands only for this URL; another URL with it is a conflict. Every enqueue with such a key must set it.
            expires_seconds: lifetime; `DECODER_MAX_AGE` is the maximum and the default.
            priority: `high`, `normal` or `low`, served 8 to 4 to 1 while all three wait. An existing mission keeps its own.

        Raises:
            InvalidMission: the URL or an option is invalid.
            QueueFull: the ledger's limit is reached.
            QuotaExceeded: the submitter's quota is used up; `retry_after` is the time to wait.
            StoredQuotaExceeded: the submitter's stored results fill their quota; also a `QuotaExceeded`.
            IdempotencyConflict: the key stands only for another URL.
            LedgerUnavailable: Redis does not answer; the mission may or may not be accepted.
            SettingsError: `DECODER_URL_KEY` is not set.
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
            urls: the URLs to fetch.
            submitter: the name that quotas and recipients depend on.
            idempotency_key: the same key and URL are one mission, and the same key is one batch: after an interruption, enqueue
                all of them again.
            expires_seconds: lifetime; `DECODER_MAX_AGE` is the maximum and the default.
            priority: `high`, `normal` or `low`, served 8 to 4 to 1 while all three wait. An existing mission keeps its own.

        Raises:
            InvalidMission: an option is invalid.
            LedgerUnavailable: Redis does not answer; the missions enqueued before are accepted. A `batch` counts them.
            SettingsError: `DECODER_URL_KEY` is not set.
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
        """An empty batch, to be filled by `Batch.add`, for lists that are too long for memory. Arguments as for `enqueue_many`.

        Raises:
            InvalidMission: an option is invalid.
            SettingsError: `DECODER_URL_KEY` is not set.
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
        """The status of a mission.

        Raises:
            InvalidMission: not a mission id.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis does not answer.
        """
        return self._ledger.status(check_mission_id(mission_id))

    def stats(self) -> Stats:
        """The number of missions in each state."""
        return self._ledger.stats()

    def statuses(self, mission_ids: Iterable[str]) -> Iterator[MissionStatus | None]:
        """The statuses of missions, in order; None for one that the ledger does not hold (any more).

        Raises:
            InvalidMission: an id is not a mission id.
            LedgerUnavailable: Redis does not answer.
        """
        for piece in pieces(mission_ids):
            yield from self._ledger.statuses([check_mission_id(one) for one in piece])

    def missions_of(self, batch_id: str) -> Iterator[str]:
        """The ids of a batch's missions, each once, in no particular order.

        Raises:
            InvalidMission: not a mission id.
            UnknownBatch: the ledger holds no such batch (any more).
            LedgerUnavailable: Redis does not answer.
        """
        ids = dict.fromkeys(chain.from_iterable(self._ledger.batch(check_mission_id(batch_id))))
        if not ids:
            raise UnknownBatch(batch_id)
        return iter(ids)

    def wait(self, mission_id: str, timeout: float) -> MissionStatus:
        """Wait up to `timeout` seconds until a mission is finished.

        A dedicated connection to Redis reports the end at once. During an outage it keeps waiting until the timeout.

        Raises:
            WaitTimeout: it is not finished; `statuses` holds its status.
            InvalidMission: not a mission id.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis never answered.
        """
        (status,) = self.follow([mission_id], timeout)
        if not status.finished:
            raise WaitTimeout(timeout, [status])
        return status

    def wait_for_batch(self, batch_id: str, timeout: float) -> Counter[State | str]:
        """Wait for a batch; return how many of its missions ended in each state. Missions deleted meanwhile are not counted.

        Raises:
            WaitTimeout: some are not finished; `statuses` holds their statuses.
            InvalidMission: not a mission id.
            UnknownBatch: the ledger holds no such batch (any more).
            LedgerUnavailable: Redis never answered.
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
        """Yield the status of each mission as it finishes; after `timeout` seconds, the current status of the others.

        Raises:
            InvalidMission: an id is not a mission id.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis never answered.
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
        """The outcomes of all submitters' missions. A single reader gets them in order; in a group, one reader gets each, at least once.

        Asking for the next outcome confirms the previous one:

            for outcome in client.outcomes(group="billing"):
                book(outcome)

        So process it fully in the loop's body. If a reader crashes, raises, breaks out of the loop or holds an outcome for longer than
        `hold_seconds`, the group's readers get it again; so an outcome may come twice. Any number of processes and threads may
        read for one group, each with its own call and the same `hold_seconds`. The iterator waits while Redis is unavailable;
        Ctrl-C and an exception end it.

        Redis keeps a group's position for `DECODER_LEDGER_TTL` after the last read. A group may fall behind by that time, and by a
        million outcomes; the `missed` of the next outcome counts those dropped before the group read them. `status` still shows
        each mission.

        Args:
            group: the readers' name, up to 64 letters, digits and `.`, `_`, `-`; None for a single reader, whose position is not kept.
            since: the start time, with its zone; for a group, only the first time. By default, from now on.
            follow: wait for more outcomes; otherwise end after the last one.
            hold_seconds: the time that a reader may take for one outcome, 1 to 86,400.

        Raises:
            InvalidMission: an argument is invalid.
            LedgerUnavailable: Redis does not answer, or this login lacks permission: producers, readers and operators have it.
                Without `follow` the iterator raises it too; otherwise the iterator waits.
        """
        return self._ledger.outcomes.follow(group, since, endless=follow, hold_seconds=hold_seconds)

    def _follow(self, mission_ids: Iterable[str], timeout: float) -> Iterator[tuple[str, MissionStatus | None]]:
        """`follow` for ids that are checked; None for a mission that the ledger does not hold."""
        give_up = time.monotonic() + timeout
        waiting = dict.fromkeys(mission_ids)
        seen = dict[str, MissionStatus | None]()  # their last statuses, if they are few
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
