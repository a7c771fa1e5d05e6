"""A reader of a group, for tests that kill it. It writes each outcome's mission and position as a line to a file before it takes the next.

`python -m tests.chaos.follower GROUP FILE`, with the settings of a producer.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from producer import MissionClient

# Simulated work on each outcome, so that a kill interrupts some.
_WORK_SECONDS = 0.03


def main() -> None:
    """Follow until killed."""
    group, file = sys.argv[1:]
    outcomes = MissionClient.from_env().outcomes(group, hold_seconds=2)
    with Path(file).open("a", buffering=1, encoding="ascii") as told:  # each line is written at once
        told.write("ready\n")
        for outcome in outcomes:
            time.sleep(_WORK_SECONDS)
            told.write(f"{outcome.id} {outcome.place} {outcome.missed}\n")


if __name__ == "__main__":
    main()
