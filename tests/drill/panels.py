"""The dashboard's expressions, asked of the Prometheus of a drill: is there data, and what does it look like."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, MaxNLocator, PercentFormatter

from tests.observability.expressions import dashboard, filled, panels

RATE_INTERVAL = "30s"
# Of a line; of a chart.
POINTS, MOST_LINES = 200, 6
DAY = 86400.0
# In inches: the page's width; the height of its figures, of a section's title, of a row of charts. Charts in a row.
WIDTH, FIGURES, TITLE, ROW, COLUMNS, DOTS = 17.0, 1.1, 0.35, 2.4, 4, 100
# Grafana's units: the label of an axis, the suffix of a figure.
UNITS = {
    "s": ("seconds", " s"),
    "percentunit": ("share", " %"),
    "ops": ("per second", "/s"),
    "bytes": ("bytes", "B"),
    "Bps": ("bytes per second", "B/s"),
    "short": ("number", ""),
}
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#8f3bb8", "#b8860b", "#17a2b8")
THRESHOLD, FIRING = "#c4162a", {"page": "#c4162a", "ticket": "#f2a900"}
SMALL = {"fontsize": 8, "color": "#555555"}


class History(Protocol):
    """A Prometheus that knows the past, such as a `Stage`."""

    def history(self, expression: str, seconds: float, step: float) -> list[dict[str, Any]]:
        """What it would have answered at each step of the last so many seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a panel: its name, and its points as seconds since the epoch and value."""

    name: str
    points: list[tuple[float, float]]


def empty_panels(stage: History, seconds: float) -> list[str]:
    """The expressions that had no answer at any moment of the last so many seconds, named by their panel or mark."""
    asked = [(panel["title"], target) for panel in panels() for target in panel["targets"]]
    asked += [(mark["name"], mark | {"legendFormat": ""}) for mark in dashboard()["annotations"]["list"]]
    return [f"{title}: {target['expr']}" for title, target in asked if not _lines(stage, target, seconds, POINTS)]


def picture(stage: History, seconds: float) -> Figure:
    """What the dashboard shows of the last so many seconds. Heat maps are Grafana's own: their quantiles have a panel."""
    figures, sections = [], list(_sections())
    for _, found in sections:
        figures += [panel for panel in found if panel["type"] == "stat"]
    charts = [(title, [panel for panel in found if panel["type"] == "timeseries"]) for title, found in sections]
    charts = [(title, found) for title, found in charts if found]
    heights = [FIGURES, *(TITLE + ROW * math.ceil(len(found) / COLUMNS) for _, found in charts)]
    page = Figure(figsize=(WIDTH, sum(heights)), dpi=DOTS, layout="constrained")
    top, *rest = page.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat
    _figures(stage, top, figures, seconds)
    (alerts,) = (mark for mark in dashboard()["annotations"]["list"] if mark["name"] == "Alerts")
    severities = {
        severity: _lines(
            stage,
            alerts | {"legendFormat": "", "expr": alerts["expr"].replace('!="heartbeat"', f'="{severity}"')},
            seconds,
            POINTS,
        )
        for severity in FIRING
    }
    start = time.time() - seconds
    for part, (title, found) in zip(rest, charts, strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color="#333333")
        axes = list(part.subplots(math.ceil(len(found) / COLUMNS), COLUMNS, squeeze=False).flat)
        for chart, panel in zip(axes, found, strict=False):
            lines = [line for target in panel["targets"] for line in _lines(stage, target, seconds, POINTS)]
            _chart(chart, panel, lines, start, seconds)
            for severity, fired in severities.items():
                for line in fired:
                    _shade(chart, line, start, seconds, FIRING[severity])
        for chart in axes[len(found) :]:
            chart.set_axis_off()
    return page


def _sections() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The dashboard's rows: title and panels."""
    title, found = "", list[dict[str, Any]]()
    for panel in [*dashboard()["panels"], {"type": "row", "title": ""}]:
        if panel["type"] == "row":
            yield title, found
            title, found = panel["title"], []
        else:
            found.append(panel)


def _figures(stage: History, top: SubFigure, wanted: list[dict[str, Any]], seconds: float) -> None:
    for place, panel in enumerate(wanted):
        x = 0.01 + place * 0.98 / len(wanted)
        lines = [line for target in panel["targets"] for line in _lines(stage, target, seconds, POINTS)]
        text = _short(lines[0].points[-1][1], _unit(panel)) if lines else "-"
        top.text(x, 0.72, text, fontsize=17, fontweight="bold", color=COLOURS[0], va="center")
        top.text(x, 0.35, panel["title"].replace(" that ", "\nthat ").replace(": ", ":\n"), va="center", **SMALL)  # type: ignore[arg-type]
    marks = [Patch(color=colour, alpha=0.25, label=f"an alert fires ({name})") for name, colour in FIRING.items()]
    top.legend(handles=marks, loc="lower left", ncols=2, fontsize=8, frameon=False)


def _chart(chart: Axes, panel: dict[str, Any], lines: list[Line], start: float, seconds: float) -> None:
    """The lines with most to show; of a closed set's series that stayed at zero, one stands for all."""
    unit = _unit(panel)
    lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    lines = [line for line in lines if any(value for _, value in line.points)] or lines[:1]
    most = max((value for line in lines for _, value in line.points), default=0.0)
    scale, label = (DAY, "days") if unit == "s" and most > 2 * DAY else (1.0, UNITS[unit][0])
    for line, colour in zip(lines[:MOST_LINES], COLOURS, strict=False):
        points = _with_gaps(line.points, seconds / 40)
        chart.plot(
            [(at - start) / 60 for at, _ in points], [value / scale for _, value in points],
            color=colour, linewidth=1.4, label=line.name or panel["title"].lower(),
        )  # fmt: skip
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ()):
        if step["value"] is not None:
            name = f"alert: {_short(step['value'], unit)}"
            chart.axhline(step["value"] / scale, color=THRESHOLD, linewidth=1.2, linestyle="--", label=name)
    chart.set_title(panel["title"], fontsize=10, fontweight="bold", loc="left")
    chart.set_xlim(0, seconds / 60)
    chart.xaxis.set_major_locator(MaxNLocator(6))
    chart.set_ylim(bottom=0, top=1.05 if unit == "percentunit" else None if most else 1)
    chart.set_xlabel("minutes", **SMALL)  # type: ignore[arg-type]
    chart.set_ylabel(label, **SMALL)  # type: ignore[arg-type]
    chart.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    chart.yaxis.set_major_formatter(_ticks(unit))
    chart.tick_params(labelsize=8, color="#999999", labelcolor="#555555")
    chart.grid(color="#e5e5e5", linewidth=0.7)
    chart.spines[["top", "right"]].set_visible(False)
    if lines:
        chart.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=7.5, frameon=False)


def _shade(chart: Axes, line: Line, start: float, seconds: float, colour: str) -> None:
    """Colour the times at which the line has points."""
    most = seconds / 40
    begin = before = line.points[0][0]
    for at, _ in [*line.points[1:], (math.inf, 0.0)]:
        if at - before > most:
            chart.axvspan((begin - start) / 60, (before - start) / 60, color=colour, alpha=0.1, linewidth=0)
            begin = at
        before = at


def _with_gaps(points: list[tuple[float, float]], most: float) -> list[tuple[float, float]]:
    """Break the line at gaps of its series, such as the time when a worker was down."""
    gaps = [(a, math.nan) for (a, _), (b, _) in pairwise(points) if b - a > most]
    return sorted([*points, *gaps], key=lambda point: point[0])


def _unit(panel: dict[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "short"))


def _ticks(unit: str) -> Formatter:
    return PercentFormatter(1, decimals=0) if unit == "percentunit" else FuncFormatter(lambda value, _: _number(value))


def _short(value: float, unit: str) -> str:
    return _number(value * 100 if unit == "percentunit" else value) + UNITS[unit][1]


def _number(value: float) -> str:
    """In three digits, with a prefix from a thousand on."""
    value = float(f"{value:.3g}")
    return EngFormatter(sep="")(value) if value >= 1000 else f"{value:g}"


def _lines(stage: History, target: dict[str, Any], seconds: float, points: int) -> list[Line]:
    """The series that a query answers with; those that are no number anywhere are left out."""
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
