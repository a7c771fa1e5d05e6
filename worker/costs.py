"""What a mission costs: the constants of the capacity model, measured.

The model is linear. A mission costs what its parts cost: itself, its document's KB, its record where it has secrets, each of these; its
share of what a worker that mostly waits spends on that in a second, about the same whatever it does meanwhile; and more where it was enqueued by
itself: a busy worker joins such messages, one that waits takes each as it comes. `benchmarks/capacity.py` measures the constants, fits them, and
checks them on two configurations that it did not fit; docs/SCALING.md tells how it came out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

# A worker that waits settles what has ended at most so often in a second (`worker.work.coordinator.LINGER_SECONDS`).
MOST_LOTS = 100.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs: CPU of the worker and of Redis' thread, commands that Redis counts, bytes to and from Redis."""

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
    """Bytes in Redis of each, as its `used_memory` counts them; of missions with URLs of 100 characters."""

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
    """The constants: what each part of a mission costs, and what is stored.

    `slot_ms` is how long a slot of the worker is taken beside the server's latency.
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
        """Of a mission with a document of so many KB (1,000 bytes), so many records and secrets (shares, as a mean), and so on.

        `waiting_seconds`, which `waiting` tells, are a mission's share of a second; 0 in a worker whose core is busy.
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
        """The second that a worker that mostly waits spends, divided by the missions it does in it: seconds."""
        return 1 / max(self.of_slots(concurrency, latency_ms), MOST_LOTS)

    def of_slots(self, concurrency: int, latency_ms: float) -> float:
        """Missions a second that the slots of one process let through."""
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
