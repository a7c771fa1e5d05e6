"""The measured constants of the capacity model: the cost of a mission.

The model is linear. A mission's cost is the sum of these parts: the mission itself, each KB of its document, its record if it has secrets, and each
secret. A worker that mostly waits has a nearly constant overhead per second, and each mission gets its share of that. A mission that was enqueued
in a message of its own costs more: a busy worker joins such messages, an idle one takes each as it arrives. `benchmarks/capacity.py` measures the
constants, fits them, and checks them on two configurations outside the fit; docs/SCALING.md shows the result.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

# A worker that mostly waits settles ended missions at most this often per second (`worker.work.coordinator.LINGER_SECONDS`).
MOST_LOTS = 100.0


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost: CPU time of the worker and of Redis' thread, commands that Redis counts, bytes to and from Redis."""

    worker_ms: float = 0.0
    redis_us: float = 0.0
    redis_commands: float = 0.0
    redis_in_bytes: float = 0.0
    redis_out_bytes: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __mul__(self, count: float) -> Self:
        return type(self)(*(getattr(self, one.name) * count for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes in Redis for each kind of record, as counted in `used_memory`; for missions with URLs of 100 characters."""

    queued: float
    leased: float
    finished: float
    dead: float
    record: float
    secret: float
    audit_entry: float
    outcome: float


@dataclass(frozen=True, slots=True)
class Model:
    """The constants: the cost of each part of a mission, and the stored bytes.

    `slot_ms` is how long a mission occupies a slot in addition to the server's latency.
    """

    mission: Cost
    document_kb: Cost
    record: Cost
    secret: Cost
    waiting_second: Cost
    alone: Cost
    alone_waiting: Cost
    slot_ms: float
    stored: Stored

    def cost(
        self,
        *,
        document_kb: float,
        records: float = 1.0,
        secrets: float = 0.0,
        alone: float = 0.0,
        waiting_seconds: float = 0.0,
    ) -> Cost:
        """Return the mean cost of a mission, with the size of its document in KB (1,000 bytes) and its mean shares of the rest.

        `waiting_seconds` is a mission's share of a second, from `waiting`; 0 in a worker whose core is busy.
        """
        return (
            self.mission
            + self.document_kb * document_kb
            + self.record * records
            + self.secret * secrets
            + self.waiting_second * waiting_seconds
            + (self.alone_waiting if waiting_seconds else self.alone) * alone
        )

    def waiting(self, concurrency: int, latency_ms: float) -> float:
        """One second of a worker that mostly waits, divided by its missions in that second: seconds."""
        return 1 / max(self.of_slots(concurrency, latency_ms), MOST_LOTS)

    def of_slots(self, concurrency: int, latency_ms: float) -> float:
        """Missions per second that the slots of one process allow."""
        return 1000 * concurrency / (latency_ms + self.slot_ms)


# fitted: written by `python -m benchmarks.capacity --write`
MODEL = Model(
    mission=Cost(0.509, 56.3, 24.0, 565.0, 294.0),
    document_kb=Cost(0.00486, 0.0922, 0.00164, 0.0129, 0.00315),
    record=Cost(0.096, 9.35, 3.08, 1330.0, 14.1),
    secret=Cost(0.0126, 0.266, 0.00341, 84.9, 0.00153),
    waiting_second=Cost(47.8, 8780.0, 294.0, 5470.0, 1250.0),
    alone=Cost(0.0753, 47.9, 14.5, 637.0, 33.3),
    alone_waiting=Cost(0.278, 68.7, 17.2, 1290.0, 270.0),
    slot_ms=3.83,
    stored=Stored(
        queued=1090, leased=768, finished=335, dead=651, record=1406, secret=94.3, audit_entry=568, outcome=104
    ),
)
# end of fitted
