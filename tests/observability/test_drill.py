"""The drill's short form: real processes, real alerts. `make drill` runs the whole drill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.drill.rehearsal import Result, rehearse, report, table
from tests.drill.scenarios import SCENARIOS
from tests.drill.shorten import PATIENCE, TIMES, WINDOWS, rehearsed_routing, shortened_rules
from tests.drill.stage import Stage
from tests.observability.test_dashboard import catalogue
from tests.observability.tools import ALERTMANAGER, RULES, load, rules

pytestmark = pytest.mark.full

SHORT = (
    *("nothing", "flaky_server", "scan_of_forbidden_addresses", "poisoned_queue", "full_queue", "prometheus_hangs"),
    "certificate_of_three_days",
)


@pytest.mark.timeout(300)
def test_alerts_reach_their_receivers_and_end(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        results = [rehearse(stage, SCENARIOS[name]) for name in SHORT]
        print(table(results))
        assert [result.problems for result in results] == [()] * len(SHORT), table(results)
        # The whole catalogue, by real scrapes; only `replica_hangs` has a replica.
        asked = 'group by (__name__) (last_over_time({job="decoder-worker"}[10m]))'
        scraped = {series["metric"]["__name__"] for series in stage.ask(asked)}
        assert set(catalogue()) - scraped == {"decoder_redis_replica_lag_seconds"}
        # The workers' logs during the drill are valid for a collector.
        assert stage.workers.logs().count("malformed message") == 60


def test_its_report_ends_with_the_table_whatever_went_wrong() -> None:
    scenario = SCENARIOS["redis_killed"]
    good = Result(scenario, scenario.pages, frozenset(), 4.0, 7.0, ())
    bad = replace(good, problems=("not mended: RedisAway", "the runbook's `x` does not show y:\n" + "z\n" * 999))
    whole = report([good, bad], empty=["Queue: sum(a)", "Queue: sum(b)"]).splitlines()
    assert [line.split() for line in whole[-3:]] == [
        ["CAUSE", "PAGE", "TICKET", "ARRIVED", "RESOLVED"],
        [*scenario.cause.split(), "RedisAway", "-", "4", "s", "7", "s", "ok"],
        [*scenario.cause.split(), "RedisAway", "-", "4", "s", "7", "s", "problems:", "2"],
    ]
    assert {f"{scenario.cause}: not mended: RedisAway", "no data in a panel: Queue: sum(b)"} <= set(whole)
    assert report([good], empty=[]) == table([good])


def test_every_alert_has_its_cause_in_the_drill() -> None:
    drilled = {alert for scenario in SCENARIOS.values() for alert in scenario.pages | scenario.tickets}
    assert drilled == {rule["alert"] for rule in rules("alert") if rule["labels"]["severity"] != "heartbeat"}
    assert "prometheus_hangs" in SCENARIOS  # the heartbeat alerts by its absence


def test_pages_and_tickets_of_the_drill_are_those_of_the_rules() -> None:
    severity = {rule["alert"]: rule["labels"]["severity"] for rule in rules("alert")}
    for scenario in SCENARIOS.values():
        assert {severity[alert] for alert in scenario.pages} <= {"page"}
        assert {severity[alert] for alert in scenario.tickets} <= {"ticket"}


def test_shortened_rules_differ_from_the_shipped_ones_in_their_times_alone() -> None:
    seconds = {*WINDOWS.values(), *PATIENCE.values()}
    for group, short_group in zip(load(RULES)["groups"], shortened_rules(load(RULES))["groups"], strict=True):
        for rule, short in zip(group["rules"], short_group["rules"], strict=True):
            assert short.keys() == rule.keys()
            assert {key: short[key] for key in short if key not in ("expr", "for")} == {
                key: rule[key] for key in rule if key not in ("expr", "for")
            }
            assert short.get("for") in {*seconds, None}
            assert _without_times(short["expr"]) == _without_times(rule["expr"])


def _without_times(expression: str) -> list[str]:
    words = expression.replace("[", " [ ").replace("]", " ] ").split()
    times = {*TIMES, *TIMES.values()}
    return [
        "T" if before in ("[", "offset") or f"{before} {word}" in times else word
        for before, word in zip(["", *words], words, strict=False)
    ]


def test_the_short_windows_keep_the_order_of_the_long_ones() -> None:
    longs = ["5m", "10m", "30m", "50m", "1h", "2h", "6h", "1d", "3d"]
    shorts = [int(WINDOWS[window].removesuffix("s")) for window in longs]
    assert shorts == sorted(shorts)


def test_a_rehearsed_routing_is_the_shipped_one_to_another_address(tmp_path: Path) -> None:
    shipped = load(ALERTMANAGER)
    rehearsed = rehearsed_routing(shipped, "http://127.0.0.1:9")
    assert rehearsed["inhibit_rules"] == shipped["inhibit_rules"]
    assert [r["matchers"] for r in rehearsed["route"]["routes"]] == [r["matchers"] for r in shipped["route"]["routes"]]
    assert rehearsed["route"]["group_by"] == shipped["route"]["group_by"]
    assert all(set(receiver) == {"name", "webhook_configs"} for receiver in rehearsed["receivers"])
