"""How what stands in files is kept up to date under a running worker: read anew every few seconds, by whoever needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# What changes in a file takes effect within this time, without a restart.
REFRESH_SECONDS = 5.0


class Refresh:
    """Reads again when it is called and the last reading is old; one thread at a time.

    Args:
        read: called then. It keeps what it had where what it finds is bad, and raises nothing.
    """

    def __init__(self, read: Callable[[], None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._read_at = time.monotonic()

    def __call__(self) -> None:
        """Read again, unless that was done of late."""
        if not self._old():
            return
        with self._lock:
            if self._old():
                self._read()
                self._read_at = time.monotonic()

    def _old(self) -> bool:
        return time.monotonic() - self._read_at >= REFRESH_SECONDS
