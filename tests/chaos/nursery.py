"""Starts worker processes fast: imports the worker once, then forks for each one.

A worker that starts the usual way needs most of a second of CPU: with a kill every half second, workers
would only ever be starting. A forked process runs the same code as `decoder worker`, except for the hooks that a scenario names.

Requests come on standard input and answers go to standard output, a JSON object a line:
`{"start": folder}` → `{"pid": n}`, `{"look": pid}` → `{"code": n or null}`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from mission.hardening import end_with_parent

DIES = "/dies/"
CRASHES, HOLDS = "/crashes/", "/holds/"


def _quick() -> None:
    """Leases and suspects are checked again within seconds, to keep short scenarios short."""
    import worker.settings
    import worker.work.retry

    worker.work.retry.SUSPECT_DELAY_SECONDS = 0.5
    worker.settings.LEASE_MARGIN_SECONDS = 1.0


def _deadly() -> None:
    """A mission with `/dies/` in its path kills its worker, as a segmentation fault or the OOM killer would."""
    from mission.url import MissionUrl
    from worker.fetch.fetcher import Document, Fetcher

    fetch = Fetcher.fetch

    def fetch_or_die(self: Fetcher, url: MissionUrl, **options: Any) -> Document:
        if url.target.startswith(DIES):
            os.kill(os.getpid(), signal.SIGKILL)
        return fetch(self, url, **options)

    Fetcher.fetch = fetch_or_die  # type: ignore[method-assign]  # that is what the hook is for


def fragile() -> None:
    """Extraction ends the process for a document that says `/crashes/`; for one that says `/holds/` it never ends, and holds the interpreter."""
    from mission.model import Extraction
    from worker.extract import Extractor, apart
    from worker.work import watchdog

    watchdog.OVERTIME_SECONDS = 1.0  # a held interpreter is detected soon
    extract = Extractor.extract
    # Its child process does the same.
    hook = "from tests.chaos import nursery; nursery.fragile(); from "
    apart.PROGRAM = apart.PROGRAM.replace("from ", hook, 1)

    def extract_or_die(
        self: Extractor, body: bytes, content_type: str | None = None, deadline: float = inf
    ) -> Extraction:
        if CRASHES.encode() in body:
            os.abort()
        if HOLDS.encode() in body:
            ctypes.PyDLL(None).sleep(10**6)
        return extract(self, body, content_type, deadline)

    Extractor.extract = extract_or_die  # type: ignore[method-assign]  # that is what the hook is for


def _late() -> None:
    """Delay the worker's first commit, as after a long pause: by then other workers have its missions."""
    from mission.model import State
    from mission.store.changes import Commit
    from mission.store.ledger import Ledger
    from mission.store.names import entry_key

    commit = Ledger.commit

    def commit_late(self: Ledger, commits: Sequence[Commit], result_ttl: float) -> list[State | None]:
        Ledger.commit = commit  # type: ignore[method-assign]  # once
        for one in commits:
            while self.client.hget(entry_key(one.id), "token") == str(one.token).encode():
                time.sleep(0.05)
        return commit(self, commits, result_ttl)

    Ledger.commit = commit_late  # type: ignore[method-assign]  # that is what the hook is for


def _shift_clock(seconds: float) -> None:
    """Shift the wall clock. Must run before anything else imports `time.time`."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + round(seconds * 1e9)


HOOKS: dict[str, Callable[[], None]] = {
    "fast-clock": lambda: _shift_clock(600),
    "slow-clock": lambda: _shift_clock(-600),
    "quick": _quick,
    "deadly": _deadly,
    "fragile": fragile,
    "late": _late,
}


def _start(folder: Path) -> int:
    if pid := os.fork():
        return pid
    end_with_parent()
    log = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    from worker.cli import main

    code = 1
    try:
        main(["worker"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _look(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    """Serve requests until standard input ends."""
    for name in sys.argv[1:]:
        HOOKS[name]()
    import worker.app  # noqa: F401 (imported once, before the forks)

    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"pid": _start(Path(request["start"]))} if "start" in request else {"code": _look(request["look"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
