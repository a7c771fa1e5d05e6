"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# The signals that end a command.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Runs before the program, in its process: files only for this user, no core dump (it could hold a secret), and on
# Linux SIGKILL as soon as the parent is gone (prctl(2), PR_SET_PDEATHSIG), even if it was killed. A preexec_fn would do the same, but
# Python 3.12 and later warn of it in a process with threads.
_LAUNCHER = """
import os, resource, sys
os.umask(0o077)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back signals that end a command until the block's end: by then the code that must end a child knows it.

    Ignored signals stay ignored. Python handles signals only in the main thread, so other threads need no protection.
    """
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    held = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():
        held = {}
    for number in held:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for signal_number in came:
            signal.raise_signal(signal_number)


def start_child(
    command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str], stdin: bytes = b""
) -> subprocess.Popen[bytes]:
    """Start a program that does not outlive this process.

    It has its own session, so that Ctrl-C in a terminal reaches only the parent, which ends its children in order.
    On Linux it also ends with the *thread* that started it: start it from a thread that lives as long as the child should.

    Args:
        command: the program's absolute path and its arguments.
        folder: its working directory.
        log: file that its output is appended to.
        env: its whole environment.
        stdin: its whole input; at most a pipe's 64 KiB.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as pipe:
            pipe.write(stdin)
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 (no shell; the callers' commands hold no stranger's text)
                launcher,
                cwd=folder,
                env=dict(env),
                stdin=reading,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    finally:
        os.close(reading)


def end_child(child: subprocess.Popen[bytes], *, grace: float) -> None:
    """Ask a child to end (SIGTERM); kill it after `grace` seconds (SIGKILL)."""
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def last_lines(log: Path, count: int = 10) -> list[str]:
    """The last lines of a child's log, which show why it ended."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
