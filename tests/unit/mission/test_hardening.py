"""What `keep_memory_private` does to a process, seen from a separate process."""

import json
import os
import subprocess
import sys

_PROBE = """
import ctypes, json, os, resource, sys
from mission.hardening import keep_memory_private
keep_memory_private()
import faulthandler
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "keylog": os.environ.get("SSLKEYLOGFILE"),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 0,
    "faulthandler": faulthandler.is_enabled(),
}))
"""


def test_no_memory_ends_on_a_disk() -> None:
    env = os.environ | {"SSLKEYLOGFILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == {"core": [0, 0], "keylog": None, "dumpable": 0, "faulthandler": False}
