"""What producers and workers share."""

from mission.operate.results import ResultReader
from mission.operate.sealed_results import SealedResult

__all__ = ["ResultReader", "SealedResult"]
