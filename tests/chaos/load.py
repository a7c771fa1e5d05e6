"""Producers under test: they enqueue in the background, keep every ticket, and retry refused URLs.

Each call uses the next priority and the next of three submitters.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from mission.errors import DecoderError
from mission.model import Priority, Ticket
from producer import MissionClient

_PAUSE_SECONDS = 0.2


class Load:
    """Enqueues `count` documents at a steady rate, `chunk` with one call; a context manager that waits for its end.

    Without a count it continues until its block ends.

    Attributes:
        tickets: number of the document by accepted id.
        refusals: number of refusals by the name of the error.
        slowest: the longest that one call took, in seconds.
    """

    def __init__(
        self, client: MissionClient, url: Callable[[int], str], count: int | None, *, per_second: float, chunk: int = 16
    ) -> None:
        self._client = client
        self._url = url
        self._count = count
        self._interval = chunk / per_second
        self._chunk = chunk
        self.tickets: dict[str, int] = {}
        self.refusals: Counter[str] = Counter()
        self.slowest = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._count is None or kind is not None:
            self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        for start in range(0, self._count or sys.maxsize, self._chunk):
            if self._ending.wait(max(0.0, due - time.monotonic())):
                return
            due += self._interval
            numbers: Sequence[int] = range(start, min(start + self._chunk, self._count or sys.maxsize))
            while (numbers := self._refused(numbers, start // self._chunk)) and not self._ending.wait(_PAUSE_SECONDS):
                pass

    def _refused(self, numbers: Sequence[int], turn: int) -> Sequence[int]:
        """Enqueue these; return those that were not accepted."""
        began = time.monotonic()
        refused: list[int] = []
        submitter, priority = f"app-{turn // 3 % 3}", list(Priority)[turn % 3]
        try:
            batch = self._client.enqueue_many(map(self._url, numbers), submitter=submitter, priority=priority)
            for number, verdict in zip(numbers, batch, strict=True):
                if isinstance(verdict, Ticket):
                    self.tickets[verdict.id] = number
                else:
                    self.refusals[type(verdict).__name__] += 1
                    refused.append(number)
        except DecoderError as error:
            self.refusals[type(error).__name__] += 1
            refused = list(numbers)  # a chunk is a single admission, so no part of it was acknowledged
        self.slowest = max(self.slowest, time.monotonic() - began)
        return refused
