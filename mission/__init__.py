"""What producers and workers share."""

from mission.results import ResultReader

__all__ = ["ResultReader"]
