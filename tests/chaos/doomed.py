"""A producer that is killed between admission and message: `python -m tests.chaos.doomed COUNT URL`."""

from __future__ import annotations

import os
import signal
import sys

from mission.store.messages import Publisher
from producer import MissionClient


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Publisher.publish = _die  # type: ignore[method-assign]  # that is what this program is for
    list(MissionClient.from_env().enqueue_many([sys.argv[2]] * int(sys.argv[1])))
