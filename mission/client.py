"""The client that apps enqueue with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Self

from mission.admission import DEFAULT_SUBMITTER, Admitter, Verdict
from mission.errors import DecoderError, LedgerUnavailable
from mission.ids import check_mission_id
from mission.model import MissionStatus, Stats, Ticket
from mission.seal.url_keys import UrlKeyring
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.ledger import Ledger

CHUNK = 256
# What is told while a connection or Redis is away is not heard: so often a waiter looks at the ledger itself.
_LOOK_SECONDS = 1.0


class MissionClient:
    """Enqueues missions and follows them. Safe to share between threads.

    >>> client = MissionClient.from_env()                       # doctest: +SKIP
    >>> ticket = client.enqueue("https://docs.example.com/a")   # doctest: +SKIP
    >>> client.wait(ticket.id, timeout=60).state                # doctest: +SKIP
    """

    def __init__(self, settings: Settings) -> None:
        keyring = UrlKeyring.from_settings(settings)
        self._ledger = Ledger(connect(settings), settings)
        self._admitter = Admitter(self._ledger, keyring, settings)

    @classmethod
    def from_env(cls) -> Self:
        """A client as the `DECODER_…` variables say.

        Raises:
            SettingsError: a variable is bad, or `DECODER_URL_KEY` is missing.
        """
        return cls(Settings.from_env())

    def enqueue(
        self,
        url: str,
        *,
        submitter: str = DEFAULT_SUBMITTER,
        idempotency_key: str | None = None,
        expires_seconds: float | None = None,
    ) -> Ticket:
        """Enqueue one mission. Once this returns, the mission reaches a terminal state.

        Args:
            url: what to fetch.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: calling again with the same key and URL returns the same mission.
            expires_seconds: give up after so long; at most, and by default, `DECODER_MAX_AGE`.

        Raises:
            InvalidMission: the URL or an option is refused.
            QueueFull: the ledger's limit is reached.
            QuotaExceeded: the submitter's quota is used up; `retry_after` says for how long.
            StoredQuotaExceeded: the submitter's stored results take all the room that they may; a `QuotaExceeded`, too.
            IdempotencyConflict: the key stands for another URL.
            LedgerUnavailable: Redis does not answer; nothing is known to be accepted.
        """
        (verdict,) = self._admitter.admit(
            [url], submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires_seconds
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
    ) -> Iterator[Verdict]:
        """Enqueue any number of URLs, in chunks; yields a ticket or a refusal for each, in order, as chunks are admitted.

        It is a generator: what is not iterated over is not enqueued.

        Args:
            urls: what to fetch.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: under the same key, each URL is one mission, however often it is enqueued: after an
                interruption, enqueue all of them again.
            expires_seconds: give up after so long; at most, and by default, `DECODER_MAX_AGE`.

        Raises:
            InvalidMission: an option is refused.
            LedgerUnavailable: Redis does not answer; what was yielded before stays accepted.
        """
        remaining = iter(urls)
        while chunk := list(islice(remaining, CHUNK)):
            yield from self._admitter.admit(
                chunk, submitter=submitter, batch_key=idempotency_key, expires_seconds=expires_seconds
            )

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

    def wait(self, mission_id: str, timeout: float) -> MissionStatus:
        """Wait until a mission is finished; at most `timeout` seconds, then its status as it is.

        It hears of the end at once, on a connection to Redis that it has for so long. An outage is waited out as long as the time lasts.

        Raises:
            InvalidMission: the id is none.
            UnknownMission: the ledger holds no such mission (any more).
            LedgerUnavailable: Redis did not answer once.
        """
        check_mission_id(mission_id)
        give_up = time.monotonic() + timeout
        status = None
        with self._ledger.listen(mission_id) as ended:
            while True:
                left = give_up - time.monotonic()
                ended.wait(max(0.0, min(left, _LOOK_SECONDS)))
                try:
                    status = self._ledger.status(mission_id)
                except LedgerUnavailable:
                    if left <= 0 and status is None:
                        raise
                if status is not None and (status.finished or left <= 0):
                    return status
