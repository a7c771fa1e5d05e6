"""The code that producers and workers share. `ResultReader` and `SealedResult` are imported on first use: they import Redis."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mission.operate.results import ResultReader
    from mission.operate.sealed_results import SealedResult
else:

    def __getattr__(name: str) -> object:
        """Import one of the two (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mission.operate import results

        return getattr(results, name)


__all__ = ["ResultReader", "SealedResult"]
