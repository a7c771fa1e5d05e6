"""One scenario from its cause to its end, and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.drill.scenarios import AFTERWARDS, Scenario, usual
from tests.drill.stage import Stage

RESOLVE_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a scenario. Times are seconds: from the cause to the last of its alerts, and from its end until no alert is open."""

    scenario: Scenario
    paged: frozenset[str]
    ticketed: frozenset[str]
    arrived: float
    resolved: float
    problems: tuple[str, ...]


class Responder(Protocol):
    """The person or program that responds to the alerts."""

    def confirm(self, alert: str) -> list[str]:
        """Look for the signs that the alert describes; return those that were missing."""

    def fix(self, alert: str) -> list[str]:
        """Take the steps that end it; return those that failed."""


def rehearse(stage: Stage, scenario: Scenario, responder: Responder | None = None) -> Result:
    """Trigger the cause, wait for its alerts, have them handled, remove the cause, wait for the alerts to end.

    Args:
        stage: the running setup.
        scenario: the scenario to run.
        responder: handles the alerts; if the scenario can be mended, only the responder ends them.
    """
    problems: list[str] = []
    stage.receiver.forget()
    stage.traffic.set(usual(stage))
    started = time.monotonic()
    with scenario.brought(stage):
        expected = scenario.pages | scenario.tickets
        at_once = expected - AFTERWARDS if scenario.pages else expected
        if expected:
            silenced = expected - at_once
            _wait(lambda: at_once <= _everywhere(stage) and silenced <= _firing(stage), started + scenario.seconds)
        else:
            time.sleep(scenario.seconds)
        arrived = time.monotonic() - started
        ended = time.monotonic()
        if responder is not None:
            problems += [problem for alert in sorted(expected) for problem in responder.confirm(alert)]
            problems += [problem for alert in sorted(expected) for problem in responder.fix(alert)]
            if scenario.mended and not _wait(lambda: not stage.receiver.open(), time.monotonic() + RESOLVE_SECONDS):
                problems.append(f"not mended: {_listed(stage.receiver.open())}")
    if not scenario.mended:
        ended = time.monotonic()
    if not _wait(lambda: expected <= _everywhere(stage) and not stage.receiver.open(), ended + RESOLVE_SECONDS):
        problems.append(f"still open: {_listed(stage.receiver.open())}")
    resolved = time.monotonic() - ended
    paged, slack = stage.receiver.seen("pagerduty"), stage.receiver.seen("slack")
    for what, found, wanted in (("page", paged, scenario.pages), ("ticket", slack - paged, scenario.tickets)):
        if missing := wanted - found:
            problems.append(f"no {what}: {_listed(missing)}")
        if surplus := found - wanted - scenario.maybe:
            problems.append(f"a {what} too many: {_listed(surplus)}")
    if not paged <= slack:
        problems.append(f"not in Slack: {_listed(paged - slack)}")
    return Result(scenario, frozenset(paged), frozenset(slack - paged), arrived, resolved, tuple(problems))


def table(results: Sequence[Result]) -> str:
    """The results as a table for people."""
    rows = [("CAUSE", "PAGE", "TICKET", "ARRIVED", "RESOLVED", "")]
    for result in results:
        alarmed = result.paged | result.ticketed
        rows.append(
            (
                result.scenario.cause,
                _listed(result.paged) or "-",
                _listed(result.ticketed) or "-",
                f"{result.arrived:.0f} s" if alarmed else "-",
                f"{result.resolved:.0f} s" if alarmed else "-",
                f"problems: {len(result.problems)}" if result.problems else "ok",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def report(results: Sequence[Result], empty: Sequence[str]) -> str:
    """All problems in full, then the table.

    Args:
        results: those of the scenarios.
        empty: expressions of the dashboard that had no data.
    """
    wrong = [f"{result.scenario.cause}: {problem}" for result in results for problem in result.problems]
    wrong += [f"no data in a panel: {expression}" for expression in empty]
    return "\n".join([*wrong, *[""] * bool(wrong), table(results)])


def _firing(stage: Stage) -> set[str]:
    """The alerts that Prometheus shows as firing, silenced or not."""
    return {series["metric"]["alertname"] for series in stage.ask('ALERTS{alertstate="firing"}')}


def _everywhere(stage: Stage) -> set[str]:
    return stage.receiver.seen("pagerduty") | stage.receiver.seen("slack")


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name.removeprefix("Decoder") for name in names))


def _wait(condition: Callable[[], bool], until: float) -> bool:
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
