"""A Valkey whose clock can jump forward and back while it runs: libfaketime in front of the C library (Debian: faketime)."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import worker.local.embedded
from tests.conftest import unavailable, wait_for
from worker.local.children import start_child
from worker.local.embedded import EmbeddedRedis

_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class Clock:
    """That server's clock, controlled by a file."""

    def __init__(self, file: Path, url: str) -> None:
        self._file = file
        self._url = url

    def is_ahead_by(self, seconds: int) -> None:
        """Shift the clock from now on; a negative value puts it behind. The server reads its clock once per turn of its event loop."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)  # never a partial file
        with redis.Redis.from_url(self._url) as client:
            wait_for(lambda: abs(client.time()[0] - time.time() - seconds) < 2, what="the server to look at its clock")


@contextmanager
def server_with_a_clock(folder: Path) -> Iterator[tuple[EmbeddedRedis, Clock]]:
    """Start it with the right time."""
    libraries = glob.glob(_LIBRARIES)
    if not libraries:
        unavailable("no libfaketime here (Debian: faketime)")
    (folder / "clock").write_text("+0\n")
    fake = {
        "LD_PRELOAD": libraries[0],
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def start(*args: Any, env: dict[str, str], **options: Any) -> Any:
        return start_child(*args, env=env | fake, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.local.embedded, "start_child", start)
        with EmbeddedRedis() as server:
            yield server, Clock(folder / "clock", server.url)
