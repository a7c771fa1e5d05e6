"""`python -m tests.chaos [SCENARIO…] [--long]`: run scenarios and print their reports; exits with 1 if a guarantee is broken."""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos.arena import no_settings_from_outside
from tests.chaos.report import Scale, table
from tests.chaos.scenarios import SCENARIOS


def main() -> int:
    """Run the scenarios that the arguments name, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}")
    parser.add_argument("--long", action="store_true", help="as much as is promised, instead of a minute or two")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    no_settings_from_outside()
    reports = []
    for name in options.scenario or SCENARIOS:
        began = time.monotonic()
        reports.append(SCENARIOS[name](Scale.LONG if options.long else Scale.SHORT))
        reports[-1].notes.append(f"took {time.monotonic() - began:.0f} s in all")
        print(table(reports[-1:]), "\n", flush=True)
    if len(reports) > 1:
        print(table(reports))
    return int(any(report.problems for report in reports))


if __name__ == "__main__":
    sys.exit(main())
