"""Worker processes for scenarios: start, kill, stop, and ask to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tests

ROOT = Path(tests.__file__).parent.parent


class Nursery:
    """Starts workers with one set of settings and hooks; a context manager that ends them all."""

    def __init__(self, folder: Path, env: Mapping[str, str], hooks: Sequence[str]) -> None:
        self._folder = folder
        self._env = dict(env) | {"PYTHONPATH": str(ROOT)}
        self._hooks = list(hooks)
        self._count = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700)
        self._errors = (self._folder / "nursery.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery", *self._hooks],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # its workers have asked the kernel to end them with it
        self._process.communicate()
        self._errors.close()

    def start(self) -> Worker:
        """Start a worker; it takes a moment to become ready."""
        self._count += 1
        folder = self._folder / f"{self._count}"
        folder.mkdir(mode=0o700)
        pid = self._ask({"start": str(folder)})["pid"]
        return Worker(self, pid, folder / "worker.log")

    def look(self, pid: int) -> int | None:
        """Take the exit code of a worker that has ended."""
        code: int | None = self._ask({"look": pid})["code"]
        return code

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery ended: " + (self._folder / "nursery.log").read_text())
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(slots=True)
class Worker:
    """One worker process. It stays a zombie until its exit code is taken, so its process id is not reused."""

    nursery: Nursery
    pid: int
    log: Path
    code: int | None = None

    def ended(self) -> bool:
        """Whether it has ended; `code` then says how (negative: by which signal)."""
        if self.code is None:
            self.code = self.nursery.look(self.pid)
        return self.code is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if not self.ended():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self.signal(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Whether it ends in time."""
        until = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def ready(self) -> bool:
        """Whether it is ready for work."""
        return self.log.exists() and b"ready." in self.log.read_bytes()
