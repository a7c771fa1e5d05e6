"""Process hardening, for every process that sees secrets or keys: its memory never reaches a disk."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # <linux/prctl.h>


def keep_memory_private() -> None:
    """Forbid core dumps, debuggers of the same user and a log of TLS keys.

    Call this before the first connection: Python's ssl reads SSLKEYLOGFILE when it creates a context. On Linux this marks
    the process as not dumpable (prctl(2)), which also hides its `/proc/PID/mem` and `/proc/PID/environ` from its own user.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A core_pattern that pipes to a program ignores RLIMIT_CORE (core(5)), but respects this.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.environ.pop("SSLKEYLOGFILE", None)


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, for whatever reason (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
