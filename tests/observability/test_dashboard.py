"""The dashboard's JSON: complete, and built on existing metrics. The drill shows that no panel is empty."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from ci.metrics import of_the_ledger
from mission.model import Priority, Reason
from tests.documents.document import anchor, headings
from tests.observability.expressions import dashboard, filled, panels, queries, selectors
from tests.observability.tools import RUNBOOK, rules
from worker.observe import metrics
from worker.work import endings  # noqa: F401 (starts the series of how missions end)

# Metrics of Prometheus itself, of Flower 2.2, and of kube-state-metrics 2.
OTHERS = {"up", "ALERTS", "flower_events_total", "flower_worker_online", "kube_job_failed"}


def catalogue() -> dict[str, set[str]]:
    """Every metric that a worker's scrape may contain, with its labels."""
    metrics.RULES_CACHED.labels("provider").set(1)  # a worker has it after loading its rules
    found: dict[str, set[str]] = {}
    for family in (*metrics.REGISTRY.collect(), *of_the_ledger()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


SERIES = catalogue()
TARGET_LABELS = {"environment", "release", "job", "instance"}
EXPRESSIONS = [
    *queries(),
    *((rule["alert"], rule["expr"]) for rule in rules("alert")),
    *((rule["record"], rule["expr"]) for rule in rules("record")),
    *((item["name"], item["expr"]) for item in dashboard()["annotations"]["list"]),
]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_an_expression_asks_for_metrics_and_labels_of_the_catalogue_alone(where: str, expression: str) -> None:
    recorded = {rule["record"] for rule in rules("record")}
    found = list(selectors(expression))
    assert found
    for name, matchers in found:
        assert name in SERIES or name in OTHERS or name in recorded, name
        if name in SERIES:
            assert set(matchers) <= SERIES[name] | TARGET_LABELS, name


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_values_asked_of_a_closed_set_are_in_it(where: str, expression: str) -> None:
    known = {
        "reason": {reason.value for reason in Reason} | {""},
        "result": {reason.value for reason in Reason} | {"ok"},
        "event": {reason.value for reason in Reason},
        "outcome": {"succeeded", "failed", "dead"},
        "decoder_entry_missions_total outcome": set(metrics.ENTRY_OUTCOMES),
        "state": {"queued", "running", "retrying", "succeeded", "failed", "dead"},
        "phase": set(metrics.PHASES),
        "priority": {priority.value for priority in Priority},
    }
    for name, matchers in selectors(expression):
        for label, values in matchers.items():
            asked = set(values.split("|"))
            assert asked <= known.get(f"{name} {label}", known.get(label, asked))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows_in_which_unit_and_asks_for_it(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["type"] in ("timeseries", "stat", "heatmap")
    assert panel["targets"]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert panel["type"] == "heatmap" or panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_leads_to_its_section_of_the_runbook(panel: dict[str, Any]) -> None:
    (link,) = panel["links"]
    address, _, section = link["url"].partition("#")
    assert address in {rule["annotations"]["runbook_url"].partition("#")[0] for rule in rules("alert")}
    assert section in map(anchor, headings(RUNBOOK))


@pytest.mark.parametrize("title", ["CPU", "Memory", "Redis memory"])
def test_what_has_a_limit_is_drawn_against_it(title: str) -> None:
    (panel,) = [panel for panel in panels() if panel["title"] == title]
    assert "limit" in [target["legendFormat"] for target in panel["targets"]]
    (override,) = panel["fieldConfig"]["overrides"]
    assert override["matcher"] == {"id": "byName", "options": "limit"}


def test_a_figure_of_redis_says_whether_it_is_reached_or_full() -> None:
    figures = {panel["title"]: panel["targets"][0]["expr"] for panel in panels() if panel["type"] == "stat"}
    named = {title: expr for title, expr in figures.items() if "Redis" in title}
    assert "decoder_redis_up" in named.pop("Workers that reach Redis")
    assert "decoder_redis_memory_max_bytes" in named.pop("Redis: memory used")
    assert not named


def test_what_fills_redis_says_what_is_measured_and_what_is_estimated() -> None:
    (panel,) = [panel for panel in panels() if panel["title"] == "Redis by what fills it"]
    assert {"measured", "estimated"} <= set(panel["description"].replace(",", " ").split())
    metrics_asked = {name for target in panel["targets"] for name, _ in selectors(filled(target["expr"]))}
    assert metrics_asked == {
        *("decoder_redis_contents_bytes", "decoder_result_bytes_total", "decoder_redis_memory_used_bytes"),
    }


def test_deploys_and_alerts_are_marked_and_the_heartbeat_is_not() -> None:
    marks = {item["name"]: item for item in dashboard()["annotations"]["list"]}
    assert marks.keys() == {"Deploys", "Alerts"}
    assert all(mark["enable"] and mark["step"] for mark in marks.values())
    ((_, matchers),) = selectors(filled(marks["Alerts"]["expr"]))
    assert matchers["severity"] == "heartbeat"
    assert 'severity!="heartbeat"' in marks["Alerts"]["expr"]


def test_ids_and_titles_are_unique() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_environment_and_release_are_chosen_by_variables_that_every_query_heeds() -> None:
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert names == ["datasource", "environment", "release"]
    for panel in panels():
        for target in panel["targets"]:
            for name, matchers in selectors(target["expr"].replace("$__rate_interval", "1m")):
                assert matchers.get("environment") == "$environment", (panel["title"], name)
                assert matchers.get("release") == "$release", (panel["title"], name)


def test_what_every_worker_says_of_the_ledger_is_not_added_up() -> None:
    ledgers = {family.name for family in of_the_ledger()}
    for title, expression in queries():
        for name, _ in selectors(expression):
            if name.removesuffix("_total") in ledgers:
                assert "max" in expression or "min" in expression or "avg" in expression, title
