"""What a worker's process takes care of at its start: that none of its memory, and no file of its own, is open to others."""

from __future__ import annotations

import os

from mission.hygiene import keep_memory_private


def harden() -> None:
    """What `keep_memory_private` does, and private files only."""
    keep_memory_private()
    os.umask(0o077)
