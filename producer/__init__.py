"""What other apps import: `MissionClient`, and the errors that it raises."""

from typing import TYPE_CHECKING

from mission.errors import (
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    QueueFull,
    QuotaExceeded,
    StoredQuotaExceeded,
)
from mission.model import MissionStatus, Reason, State, Stats, Ticket

if TYPE_CHECKING:
    from mission.client import MissionClient
else:

    def __getattr__(name: str) -> object:
        """`MissionClient`, imported when it is used (PEP 562): it brings Redis and Celery."""
        if name != "MissionClient":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mission.client import MissionClient

        return MissionClient


__all__ = [
    "IdempotencyConflict",
    "InvalidMission",
    "LedgerUnavailable",
    "MissionClient",
    "MissionStatus",
    "QueueFull",
    "QuotaExceeded",
    "Reason",
    "State",
    "Stats",
    "StoredQuotaExceeded",
    "Ticket",
]
