"""The dashboard's expressions, evaluated by the Prometheus of a drill: whether each has data, and how it looks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pygal
from pygal.formatters import human_readable
from pygal.style import Style

from tests.drill.stage import Stage
from tests.observability.expressions import dashboard, filled, panels

RATE_INTERVAL = "30s"
# Limits of a line and of a chart.
POINTS, MOST_LINES = 200, 6
# In pixels: the page's width, with three charts in a row; the height of its figures, and of a row.
WIDTH, COLUMNS = 1240, 3
FIGURES, ROW = 70, 188
UNITS = {"s": " s", "percentunit": " %", "ops": "/s", "bytes": "B", "Bps": "B/s", "short": ""}
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#c4162a", "#8f3bb8", "#b8860b")
LOOK = pygal.Config(
    style=Style(background="white", plot_background="white", colors=COLOURS, title_font_size=13, legend_font_size=10),
    width=400,
    height=185,
    explicit_size=True,
    include_x_axis=True,
    stroke_style={"width": 1.5},
    show_dots=False,
    allow_interruptions=True,
    show_x_labels=False,
    show_x_guides=False,
    y_labels_major_count=3,
    show_minor_y_labels=False,
    legend_at_bottom=True,
    legend_at_bottom_columns=3,
    legend_box_size=8,
    truncate_legend=15,
    disable_xml_declaration=True,
    js=(),
)
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 8px; font: 11px sans-serif; }}
p {{ display: inline-block; margin: 4px 8px; width: 95px; vertical-align: bottom; }}
b {{ display: block; font-size: 20px; color: #3274d9; }}
</style>{}<br>{}"""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a panel: its name, and its points as seconds since the epoch and value."""

    name: str
    points: list[tuple[float, float]]


def empty_panels(stage: Stage, seconds: float) -> list[str]:
    """The expressions that had no value at any moment of the last `seconds`, named by their panel or annotation."""
    asked = [(panel["title"], target) for panel in panels() for target in panel["targets"]]
    asked += [(mark["name"], mark | {"legendFormat": ""}) for mark in dashboard()["annotations"]["list"]]
    return [f"{title}: {target['expr']}" for title, target in asked if not _lines(stage, target, seconds, POINTS)]


def picture(stage: Stage, seconds: float) -> tuple[str, tuple[int, int]]:
    """The dashboard's view of the last `seconds`: an HTML page, and its size. Heat maps need Grafana: a panel shows their quantiles."""
    stats, charts = [], []
    for panel in panels():
        unit = panel["fieldConfig"]["defaults"].get("unit", "short")
        lines = [line for target in panel["targets"] for line in _lines(stage, target, seconds, POINTS)]
        if panel["type"] == "stat" and lines:
            stats.append(f"<p>{panel['title']}<b>{_short(lines[0].points[-1][1], unit)}</b></p>")
        elif panel["type"] == "timeseries":
            charts.append(_chart(panel["title"], unit, lines, (time.time() - seconds, time.time())))
    return PAGE.format("".join(stats), "".join(charts)), (WIDTH, FIGURES + ROW * math.ceil(len(charts) / COLUMNS))


def _chart(title: str, unit: str, lines: list[Line], window: tuple[float, float]) -> str:
    """The lines with the most data; one line represents all series of a closed set that stayed at zero."""
    lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    lines = [line for line in lines if any(value for _, value in line.points)] or lines[:1]
    chart = pygal.XY(LOOK, title=title, xrange=window, value_formatter=partial(_short, unit=unit))
    for line in lines[:MOST_LINES]:
        # A gap in the series (a worker that was down) is a gap in the line.
        gaps = [(a, None) for (a, _), (b, _) in pairwise(line.points) if b - a > (window[1] - window[0]) / 40]
        chart.add(line.name, sorted([*line.points, *gaps], key=lambda point: point[0]))
    return str(chart.render(is_unicode=True))


def _short(value: float, unit: str) -> str:
    value = float(f"{value * 100 if unit == 'percentunit' else value:.3g}")
    return (human_readable(value) if value >= 1 else f"{value:g}") + UNITS[unit]


def _lines(stage: Stage, target: dict[str, Any], seconds: float, points: int) -> list[Line]:
    """The series that a query returns, without those that are NaN everywhere."""
    found = stage.history(filled(target["expr"], RATE_INTERVAL), seconds, step=max(1.0, seconds / points))
    lines = []
    for series in found:
        numbers = [(float(moment), float(value)) for moment, value in series["values"]]
        numbers = [number for number in numbers if math.isfinite(number[1])]
        if numbers:
            lines.append(Line(_legend(target["legendFormat"], series["metric"]), numbers))
    return lines


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template
