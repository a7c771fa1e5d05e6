"""Process hardening, for every process that sees secrets or keys: none of its memory ends on a disk."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # <linux/prctl.h>


def keep_memory_private() -> None:
    """No core dump, no debugger of the same user's, no log of TLS keys.

    To be called before the first connection: Python's ssl reads SSLKEYLOGFILE when a context is made. On Linux the process
    is marked as not dumpable (prctl(2)), which also hides its `/proc/PID/mem` and `/proc/PID/environ` from its own user.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A core_pattern that pipes to a program ignores RLIMIT_CORE (core(5)), but not this.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.environ.pop("SSLKEYLOGFILE", None)


def end_with_parent() -> None:
    """Have this process killed when the thread that started it ends (Linux), whatever ended that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
