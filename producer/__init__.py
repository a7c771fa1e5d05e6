"""What other apps import: `MissionClient`, and the errors that it raises."""

from mission.client import MissionClient
from mission.errors import IdempotencyConflict, InvalidMission, LedgerUnavailable, QueueFull, QuotaExceeded
from mission.model import MissionStatus, Reason, State, Stats, Ticket

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
    "Ticket",
]
