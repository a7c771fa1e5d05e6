"""`python -m tests.drill [SCENARIO…]`: run the whole drill or these scenarios, and print a table at the end."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from mission.errors import DecoderError
from tests.documents.on_call import OnCall
from tests.drill.panels import empty_panels, picture
from tests.drill.rehearsal import rehearse, report, table
from tests.drill.scenarios import SCENARIOS, usual
from tests.drill.stage import Stage
from tests.observability.browser import opened


def main() -> int:
    """Return 0 if each scenario raised the expected alerts and, after a whole drill, no panel of the dashboard is empty."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="draw the dashboard's data and Flower's tasks there"
    )
    args = parser.parse_args()
    if unknown := set(args.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    os.environ["CI"] = "drill"  # a missing program is an error here
    chosen = [SCENARIOS[name] for name in args.scenarios or SCENARIOS]
    results = []
    started = time.monotonic()
    with ExitStack() as pieces:
        folder = Path(pieces.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        stage = pieces.enter_context(Stage(folder, flower=True))
        on_call = OnCall(stage, folder)
        stage.traffic.set(usual(stage))
        for scenario in chosen:
            results.append(rehearse(stage, scenario, on_call))
            print(table(results[-1:]).splitlines()[1], flush=True)
        lasted = time.monotonic() - started
        empty = [] if args.scenarios else empty_panels(stage, lasted)  # a single cause does not fill them all
        if args.pictures:
            picture(stage, lasted).savefig(args.pictures / "dashboard.png")
            _flower(stage, args.pictures / "flower.png")
    print("\n" + report(results, empty))
    return int(any(result.problems for result in results) or bool(empty))


def _flower(stage: Stage, file: Path) -> None:
    if stage.flower is None:
        raise DecoderError("no Flower runs here")
    opened(f"{stage.flower.url}/tasks", login=stage.flower.login, picture=file)


if __name__ == "__main__":
    raise SystemExit(main())
