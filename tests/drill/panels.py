"""The dashboard's expressions, asked of the Prometheus of a drill: is there data, and what does it look like."""

from __future__ import annotations

import math
import time
from typing import Any

from tests.drill import plot
from tests.drill.stage import Stage
from tests.observability.expressions import filled, panels

RATE_INTERVAL = "30s"
# Of a line, and across a heat map.
POINTS, COLUMNS = 200, 66


def empty_panels(stage: Stage, seconds: float) -> list[str]:
    """The expressions that had no answer at any moment of the last so many seconds, named by their panel."""
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in panels()
        for target in panel["targets"]
        if not _lines(stage, target, seconds, POINTS)
    ]


def picture(stage: Stage, seconds: float) -> str:
    """What the dashboard shows of the last so many seconds, drawn as SVG."""
    window = (time.time() - seconds, time.time())
    stats, graphs = [], []
    for panel in panels():
        title, unit = panel["title"], panel["fieldConfig"]["defaults"].get("unit", "short")
        points = COLUMNS if panel["type"] == "heatmap" else POINTS
        lines = [line for target in panel["targets"] for line in _lines(stage, target, seconds, points)]
        if panel["type"] == "stat":
            stats += [plot.stat(title, unit, lines[0].points[-1][1])] if lines else []
        elif panel["type"] == "heatmap":
            graphs.append(plot.heatmap(title, lines, window))
        else:
            graphs.append(plot.graph(title, unit, lines, window))
    return plot.page(stats, graphs)


def _lines(stage: Stage, target: dict[str, Any], seconds: float, points: int) -> list[plot.Line]:
    """The series that a query answers with; those that are no number anywhere are left out."""
    found = stage.history(filled(target["expr"], RATE_INTERVAL), seconds, step=max(1.0, seconds / points))
    lines = []
    for series in found:
        numbers = [(float(moment), float(value)) for moment, value in series["values"]]
        numbers = [number for number in numbers if math.isfinite(number[1])]
        if numbers:
            lines.append(plot.Line(_legend(target["legendFormat"], series["metric"]), numbers))
    return lines


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template
