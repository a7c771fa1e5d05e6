"""What `keep_memory_private` does to a process, seen from a process of its own."""

import json
import os
import subprocess
import sys

import pytest

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


@pytest.fixture(scope="module")
def hardened() -> dict[str, object]:
    env = os.environ | {"SSLKEYLOGFILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_no_core_is_dumped(hardened: dict[str, object]) -> None:
    assert hardened["core"] == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux' own")
def test_the_process_is_not_dumpable(hardened: dict[str, object]) -> None:
    assert hardened["dumpable"] == 0


def test_tls_keys_are_not_logged(hardened: dict[str, object]) -> None:
    assert hardened["keylog"] is None


def test_no_handler_dumps_stacks_at_a_crash(hardened: dict[str, object]) -> None:
    assert hardened["faulthandler"] is False
