"""A batch: missions that were enqueued together, to be followed together.

The ledger stores their ids under the batch's id for as long as it may keep the missions. So any process with that id can
follow them.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

from mission.admission import Verdict
from mission.errors import DecoderError, InvalidMission
from mission.model import Priority, Reason, State, Ticket

# The URLs admitted in one call to Redis.
CHUNK = 256


class Batch:
    """Missions that are enqueued together. `add` enqueues more; iteration gives the verdicts of `enqueue_many`.

    Attributes:
        id: for following them; the same submitter and idempotency key give the same id.
        accepted: how many missions are new.
        duplicates: how many existed before.
        refused: how many URLs were refused, by reason.
        verdicts: a ticket or a refusal for each URL that `enqueue_many` was given, in order; empty if only `add` was called.
    """

    def __init__(
        self,
        batch_id: str,
        admit: Callable[[Sequence[str]], list[Verdict]],
        wait: Callable[[str, float], Counter[State | str]],
    ) -> None:
        self.id = batch_id
        self.accepted = self.duplicates = 0
        self.refused: Counter[Reason | None] = Counter()
        self.verdicts = Verdicts()
        self._admit = admit
        self._wait = wait

    def add(self, urls: Iterable[str]) -> list[Verdict]:
        """Enqueue these URLs. Return a ticket or a refusal for each, in order; the batch only counts them.

        Raises:
            InvalidMission: the argument is a single string.
            LedgerUnavailable: Redis does not answer; the missions enqueued before are accepted and counted.
        """
        verdicts = list[Verdict]()
        for piece in pieces(urls):
            for verdict in self._admit(piece):
                if isinstance(verdict, DecoderError):
                    self.refused[verdict.reason] += 1
                else:
                    self.duplicates += verdict.duplicate
                    self.accepted += not verdict.duplicate
                verdicts.append(verdict)
        return verdicts

    def wait(self, timeout: float) -> Counter[State | str]:
        """Wait up to `timeout` seconds until all missions are finished; return how many ended in each state.

        Raises:
            WaitTimeout: some are not finished.
            LedgerUnavailable: Redis never answered.
        """
        return self._wait(self.id, timeout)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)


def pieces(items: Iterable[str]) -> Iterator[list[str]]:
    """Split items into lists, each as long as one call takes.

    Raises:
        InvalidMission: the argument is a single string.
    """
    if isinstance(items, str):
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "takes a list of URLs or ids, not a single string")
    remaining = iter(items)
    while piece := list(islice(remaining, CHUNK)):
        yield piece


class Verdicts(Sequence[Verdict]):
    """The verdict on each URL. A ticket takes 17 bytes here, and 150 as an object: a list may have a million."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._kinds = bytearray()
        self._tickets: list[tuple[State | str, bool, Priority | str]] = []
        self._refusals: dict[int, DecoderError] = {}

    def extend(self, verdicts: Iterable[Verdict]) -> None:
        """Append these."""
        for verdict in verdicts:
            if isinstance(verdict, DecoderError):
                self._refusals[len(self)] = verdict
                self._ids += bytes(16)
                self._kinds.append(0)
                continue
            kind = (verdict.state, verdict.duplicate, verdict.priority)
            if kind not in self._tickets:  # few combinations exist
                self._tickets.append(kind)
            self._ids += bytes.fromhex(verdict.id.replace("-", ""))
            self._kinds.append(self._tickets.index(kind))

    @overload
    def __getitem__(self, place: int) -> Verdict: ...

    @overload
    def __getitem__(self, place: slice) -> list[Verdict]: ...

    def __getitem__(self, place: int | slice) -> Verdict | list[Verdict]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        n = range(len(self))[place]
        if n in self._refusals:
            return self._refusals[n]
        return Ticket(str(uuid.UUID(bytes=bytes(self._ids[16 * n : 16 * n + 16]))), *self._tickets[self._kinds[n]])

    def __len__(self) -> int:
        return len(self._kinds)
