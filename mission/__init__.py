"""What producers and workers share."""

from mission.results import ResultReader
from mission.sealed_results import SealedResult

__all__ = ["ResultReader", "SealedResult"]
