"""One reader of a group, to be killed: writes each outcome's mission and place to a file, a line each, before it takes the next.

`python -m tests.chaos.follower GROUP FILE`, with the settings of a producer.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from producer import MissionClient

# What an app does with each takes a while: so a kill finds some in its hands.
_WORK_SECONDS = 0.03


def main() -> None:
    """Follow until somebody ends it."""
    group, file = sys.argv[1:]
    outcomes = MissionClient.from_env().outcomes(group, hold_seconds=2)
    with Path(file).open("a", buffering=1, encoding="ascii") as told:  # a line goes out at once
        told.write("ready\n")
        for outcome in outcomes:
            time.sleep(_WORK_SECONDS)
            told.write(f"{outcome.id} {outcome.place} {outcome.missed}\n")


if __name__ == "__main__":
    main()
