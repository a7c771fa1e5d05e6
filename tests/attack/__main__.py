"""`python -m tests.attack [--long] [--only ATTACK…] [--json]`: attack, and print the verdict; exits with 1 if a promise is broken."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.attack.attackers import ANSWERS
from tests.attack.trial import Run, Verdict, attack
from tests.chaos.arena import no_settings_from_outside
from tests.chaos.report import Scale

_COLUMNS = ("run", "succeeded", "p50", "p95", "died", "Redis' peak", "a worker's peak")


def table(verdict: Verdict) -> str:
    """The verdict as readable text."""

    def cells(run: Run) -> tuple[str, ...]:
        times = f"{run.p50:.0f} ms", f"{run.p95:.0f} ms"
        peaks = f"{run.redis_peak // 2**20} MiB", f"{run.worker_peak // 2**20} MiB"
        return run.name, f"{run.succeeded} of {run.sent}", *times, str(run.died), *peaks

    rows = [_COLUMNS, cells(verdict.calm), cells(verdict.attacked)]
    lines = ["".join(f"{cell:>17}" for cell in row) for row in rows]
    allowed = "judged in the long form alone" if verdict.allowed is None else f"{verdict.allowed:g} is allowed"
    lines.append(f"p95 under attack: {verdict.ratio:.1f} times that of the calm run ({allowed})")
    for name, answers in verdict.attacked.attacks.items():
        lines.append(f"{name:>19}: " + ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items())))
    return "\n".join(lines + [f"PROBLEM: {problem}" for problem in verdict.problems])


def main() -> int:
    """Run the attack with these arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--long", action="store_true", help="2,000 honest missions, as is promised")
    parser.add_argument(
        "--only", nargs="+", choices=ANSWERS, default=tuple(ANSWERS), metavar="ATTACK", help="not all: %(choices)s"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args()
    no_settings_from_outside()
    verdict = attack(Scale.LONG if options.long else Scale.SHORT, options.only)
    print(json.dumps(asdict(verdict) | {"ratio": verdict.ratio}) if options.json else table(verdict))
    return int(bool(verdict.problems))


if __name__ == "__main__":
    sys.exit(main())
