"""The picture that a drill draws of its dashboard."""

from __future__ import annotations

import io
import math
import time
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.drill.panels import UNITS, picture
from tests.observability.expressions import dashboard, panels

SECONDS = 600.0
PNG = b"\x89PNG"


class Past:
    """A Prometheus that answers everything with one wave, and with an alert that fires for a while."""

    def history(self, expression: str, seconds: float, step: float) -> list[dict[str, Any]]:
        now = time.time()
        if expression.startswith("ALERTS"):
            if 'severity="page"' not in expression:
                return []
            return [{"metric": {}, "values": [(now - at, "1") for at in (400, 397, 394, 100, 97)]}]
        values = [(now - seconds + i * step, str(0.5 + math.sin(i / 20) / 2)) for i in range(200)]
        return [{"metric": {"outcome": "succeeded", "release": "decoder"}, "values": values}]


@pytest.fixture(scope="module")
def page() -> Figure:
    return picture(Past(), SECONDS)


def charts(page: Figure) -> dict[str, Axes]:
    return {axes.get_title("left"): axes for axes in page.axes if axes.axison}


def test_it_has_every_chart_of_the_dashboard_with_its_unit_and_a_legend(page: Figure) -> None:
    wanted = {panel["title"]: panel for panel in panels() if panel["type"] == "timeseries"}
    assert set(charts(page)) == set(wanted)
    for title, chart in charts(page).items():
        unit = wanted[title]["fieldConfig"]["defaults"].get("unit", "short")
        assert (chart.get_xlabel(), chart.get_ylabel()) == ("minutes", UNITS[unit][0])
        assert chart.get_legend() is not None, title


def test_a_threshold_of_the_dashboard_is_a_line_in_its_chart(page: Figure) -> None:
    named = {title: [str(line.get_label()) for line in chart.lines] for title, chart in charts(page).items()}
    lines = {title: [name for name in names if name.startswith("alert")] for title, names in named.items()}
    assert {title: names for title, names in lines.items() if names} == {
        "Success rate": ["alert: 95 %"],
        "Latency: average and quantiles": ["alert: 10 s"],
        "Redis: share used": ["alert: 85 %"],
    }


def test_rows_and_figures_are_titled_as_in_the_dashboard(page: Figure) -> None:
    parts = page.subfigs
    texts = {text.get_text().replace("\n", " ") for part in parts for text in part.texts}
    assert {panel["title"] for panel in panels() if panel["type"] == "stat"} <= texts
    rows = [part.get_suptitle() for part in parts[1:]]
    assert rows == [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"][1:]


def test_each_time_that_an_alert_fired_is_shaded(page: Figure) -> None:
    spans = [patch.get_extents().width > 0 for patch in charts(page)["Throughput"].patches]
    assert spans == [True, True]


def test_it_is_a_picture(page: Figure) -> None:
    file = io.BytesIO()
    page.savefig(file, dpi=40)
    assert file.getvalue().startswith(PNG)
