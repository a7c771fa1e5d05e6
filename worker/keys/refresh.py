"""Periodic re-reading of files in a running worker: a caller that needs the content triggers it, every few seconds at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# A change in a file takes effect within this time, without a restart.
REFRESH_SECONDS = 5.0


class Refresh:
    """Reads again if the last reading is too old when it is called; one thread at a time.

    Args:
        read: reads. If the new content is invalid, it keeps the old, and it raises nothing.
    """

    def __init__(self, read: Callable[[], None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._read_at = time.monotonic()

    def __call__(self) -> None:
        """Read again, unless the last reading is recent."""
        if not self._old():
            return
        with self._lock:
            if self._old():
                self._read()
                self._read_at = time.monotonic()

    def _old(self) -> bool:
        return time.monotonic() - self._read_at >= REFRESH_SECONDS
