"""Extraction opens no connection: enforced by the kernel, since the engine is native code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.credentials import GITHUB_TOKEN, PASSWORD

# seccomp(2): from here on the kernel kills the process that asks for a socket.
NO_SOCKETS = """
import ctypes, platform, struct
SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
program = b"".join(struct.pack("HBBI", *each) for each in (
    (0x20, 0, 0, 0),  # load the number of the system call
    (0x15, 0, 1, SOCKET),  # if it is socket,
    (0x06, 0, 0, 0x80000000),  # end the process,
    (0x06, 0, 0, 0x7FFF0000),  # else let it through
))
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("program", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(Filter(4, program)), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP
"""

EXTRACT = """
import sys
from pathlib import Path
from worker.extract import Detectors, Extractor
found = Extractor(Detectors(cache=Path(sys.argv[1]))).extract(sys.stdin.buffer.read())
print(sorted(secret.detector for secret in found))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp(2)")


def run(code: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NO_SOCKETS + code, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=100)


def test_the_kernel_ends_a_process_that_opens_a_socket() -> None:
    assert run("import socket; socket.socket()").returncode < 0


def test_rules_are_loaded_and_a_document_is_searched_without_a_socket(rules_cache: Path) -> None:
    done = run(EXTRACT, str(rules_cache), text=f"{{* KEY: a *}}\ntoken={GITHUB_TOKEN}\ndb_password = '{PASSWORD}'\n")
    assert (done.returncode, done.stdout) == (0, "['generic', 'marker', 'provider']\n"), done.stderr
