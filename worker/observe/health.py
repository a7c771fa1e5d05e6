"""The health file, by which a probe checks that the worker is alive and ready, without a port or a client.

`python -m worker.observe.health FILE --live|--ready [--max-age SECONDS]` is such a probe; it imports little, to start fast. If
one command has several processes, each has its own file, and the probe of FILE checks them all.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

BEAT_SECONDS = 1.0
MAX_AGE_SECONDS = 15.0
_MOST_PROCESSES = 256

_USAGE = "usage: python -m worker.observe.health FILE --live|--ready [--max-age SECONDS]"


class Heartbeat:
    """Writes the health file about once a second, from the loops that call `beat`. Without a path it does nothing.

    The file holds `{"live_at": seconds since the epoch, "ready": bool}` and is replaced in one piece, so that a reader
    never sees half of it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._next = 0.0

    def beat(self, *, ready: bool = True) -> None:
        """Record that the process lives; `ready` is false while it takes no work. A full disk does not stop the worker."""
        with self._lock:
            if self._path is None or time.monotonic() < self._next:
                return
            self._next = time.monotonic() + BEAT_SECONDS
            _write(self._path, {"live_at": time.time(), "ready": ready})


def file_of(path: Path, number: int) -> Path:
    """The health file of one of several processes."""
    return path.with_name(f"{path.name}.{number}")


def announce(path: Path, count: int) -> None:
    """Record in the health file that `count` processes, at most 256, each have their own."""
    _write(path, {"processes": count})


def is_live(path: Path, now: float, max_age: float) -> bool:
    """Whether the file was written within `max_age` seconds of `now` (seconds since the epoch)."""
    written = _read(path).get("live_at")
    return isinstance(written, int | float) and abs(now - written) <= max_age


def is_ready(path: Path, now: float, max_age: float) -> bool:
    """Whether the worker lives and takes work."""
    return is_live(path, now, max_age) and _read(path).get("ready") is True


def _write(path: Path, said: dict[str, object]) -> None:
    with suppress(OSError):  # the file ages, or is missing, and the probe says so
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(said), encoding="utf-8")
        new.replace(path)


def _files(path: Path) -> list[Path]:
    count = _read(path).get("processes")
    if not isinstance(count, int) or not 0 < count <= _MOST_PROCESSES:
        return [path]
    return [file_of(path, number) for number in range(count)]


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main(arguments: Sequence[str]) -> int:
    """Run the probe. Exit code: 0 yes, 1 no, 2 usage error."""
    match arguments:
        case [file, ("--live" | "--ready") as question]:
            max_age = MAX_AGE_SECONDS
        case [file, ("--live" | "--ready") as question, "--max-age", seconds] if seconds.isdecimal():
            max_age = float(seconds)
        case _:
            sys.stderr.write(f"{_USAGE}\n")
            return 2
    ask = is_live if question == "--live" else is_ready
    for path in _files(Path(file)):
        if not ask(path, time.time(), max_age):
            sys.stderr.write(f"not {question[2:]}: {str(path)!r} is missing, too old, or says so\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
