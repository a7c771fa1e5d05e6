"""Watch a release after its deployment: `python -m ci.watch --seconds 3600 --every 30`.

Asks Prometheus (PROMETHEUS) at short intervals whether a page fires that did not fire before the deployment
(DEPLOYED_AT), whether more than 5 % of missions fail, and whether workers are up. Exits with 1 after two bad checks in a row.
Also exits with 1 if Prometheus does not answer for 5 minutes: a release that cannot be watched is rolled back. Exits with 0
at once if another release has taken over.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

BAD_IN_A_ROW = 2
BLIND_SECONDS = 300.0
_ANSWER_SECONDS = 10.0

Ask = Callable[[str], list[dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Release:
    """A watched release: the labels of its metrics, its commit, the time of its deployment (seconds since the epoch)."""

    environment: str
    name: str
    commit: str
    deployed_at: int

    @property
    def labels(self) -> str:
        """The labels of its series, in a selector's syntax."""
        return f'environment="{self.environment}", release="{self.name}"'


def look(release: Release, ask: Ask) -> list[str]:
    """List the current problems, one line each.

    Raises:
        OSError: Prometheus does not answer.
        Superseded: only workers of other releases run.
    """
    if not ask(f'up{{job="decoder-worker", {release.labels}}} == 1'):
        return ["no worker is up"]
    if not ask(f'decoder_build_info{{{release.labels}, commit="{release.commit}"}}'):
        raise Superseded
    firing = f'ALERTS{{{release.labels}, alertstate="firing", severity="page"}}'
    new = ask(f"{firing} unless on (alertname) {firing} @ {release.deployed_at}")
    wrong = [f"{series.get('alertname', 'an alert')} fires" for series in new]
    if ask(f"decoder:errors:ratio_rate10m{{{release.labels}}} > 0.05"):
        wrong.append("less than 95 % of missions succeed")
    return wrong


class Superseded(Exception):
    """Another release has taken over."""


def watch(release: Release, ask: Ask, *, seconds: float, every: float, sleep: Callable[[float], None]) -> int:
    """Check until the time is over. Return 0 for a good release, 1 for a bad one."""
    bad, blind = 0, 0.0
    for _ in range(max(1, round(seconds / every))):
        try:
            wrong = look(release, ask)
            blind = 0.0
        except Superseded:
            print("another release has taken over")
            return 0
        except (OSError, ValueError) as error:
            blind += every
            print(f"Prometheus does not answer: {type(error).__name__}")
            if blind >= BLIND_SECONDS:
                return 1
            wrong = []
        else:
            bad = bad + 1 if wrong else 0
        for line in wrong:
            print(line)
        if bad >= BAD_IN_A_ROW:
            return 1
        sleep(every)
    print("no problems found")
    return 0


def prometheus(url: str) -> Ask:
    """Return a function that queries this Prometheus and yields the labels of each resulting series."""

    def ask(query: str) -> list[dict[str, str]]:
        data = urllib.parse.urlencode({"query": query}).encode()
        with urllib.request.urlopen(f"{url.rstrip('/')}/api/v1/query", data, _ANSWER_SECONDS) as answer:
            return [series["metric"] for series in json.load(answer)["data"]["result"]]

    return ask


def main() -> int:
    """Read the pipeline's variables, and watch."""
    options = argparse.ArgumentParser(description="Watch a release after its deployment.")
    options.add_argument("--seconds", type=float, required=True, help="duration of the watch, in seconds")
    options.add_argument("--every", type=float, required=True, help="interval between two checks, in seconds")
    given = options.parse_args()
    names = ("PROMETHEUS", "ENVIRONMENT", "RELEASE", "COMMIT", "DEPLOYED_AT")
    if missing := [name for name in names if not os.environ.get(name)]:
        print(f"error: not set: {', '.join(missing)}", file=sys.stderr)
        return 2
    url, environment, name, commit, deployed_at = (os.environ[name] for name in names)
    release = Release(environment, name, commit, int(deployed_at))
    return watch(release, prometheus(url), seconds=given.seconds, every=given.every, sleep=time.sleep)


if __name__ == "__main__":
    raise SystemExit(main())
