"""The API for other apps: `MissionClient`, and the errors that it raises."""

from typing import TYPE_CHECKING

from mission.errors import (
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    QueueFull,
    QuotaExceeded,
    SettingsError,
    StoredQuotaExceeded,
    UnknownBatch,
    UnknownMission,
    WaitTimeout,
)
from mission.model import MissionStatus, Outcome, Reason, State, Stats, Ticket

if TYPE_CHECKING:
    from mission.batch import Batch
    from mission.client import MissionClient
else:

    def __getattr__(name: str) -> object:
        """Import `MissionClient` and `Batch` when they are first used (PEP 562): they import Redis and Celery."""
        if name not in ("Batch", "MissionClient"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mission.batch import Batch
        from mission.client import MissionClient

        return {"Batch": Batch, "MissionClient": MissionClient}[name]


__all__ = [
    "Batch",
    "IdempotencyConflict",
    "InvalidMission",
    "LedgerUnavailable",
    "MissionClient",
    "MissionStatus",
    "Outcome",
    "QueueFull",
    "QuotaExceeded",
    "Reason",
    "SettingsError",
    "State",
    "Stats",
    "StoredQuotaExceeded",
    "Ticket",
    "UnknownBatch",
    "UnknownMission",
    "WaitTimeout",
]
