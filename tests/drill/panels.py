"""The dashboard's expressions, asked of the Prometheus of a drill: is there data, and what does it look like."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

from tests.drill.stage import Stage
from tests.observability.expressions import filled, panels

RATE_INTERVAL = "30s"
# Of the drawing, in pixels.
COLUMNS, WIDTH, HEIGHT, MARGIN = 3, 400, 180, 14
PLOT_TOP, PLOT_BOTTOM, PLOT_LEFT, PLOT_RIGHT = 30, 130, 50, 390
LEGENDS = 6
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#c4162a", "#8f3bb8", "#b8860b")


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a panel: its name, and its points as seconds since the epoch and value."""

    name: str
    points: list[tuple[float, float]]


def empty_panels(stage: Stage, seconds: float) -> list[str]:
    """The expressions that had no answer at any moment of the last so many seconds, named by their panel."""
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in panels()
        for target in panel["targets"]
        if not _lines(stage, target, seconds)
    ]


def picture(stage: Stage, seconds: float) -> str:
    """What the graphs of the dashboard show of the last so many seconds, drawn as SVG."""
    graphs = [panel for panel in panels() if panel["type"] == "timeseries"]
    rows = math.ceil(len(graphs) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    drawn = [
        f'<g transform="translate({number % COLUMNS * WIDTH},{number // COLUMNS * HEIGHT})">'
        + _graph(panel["title"], [line for target in panel["targets"] for line in _lines(stage, target, seconds)])
        + "</g>"
        for number, panel in enumerate(graphs)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _lines(stage: Stage, target: dict[str, Any], seconds: float) -> list[Line]:
    """The series that a query answers with; those that are no number anywhere are left out."""
    found = stage.history(filled(target["expr"], RATE_INTERVAL), seconds, step=max(1.0, seconds / 300))
    lines = []
    for series in found:
        points = [(float(moment), float(value)) for moment, value in series["values"]]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            lines.append(Line(_legend(target["legendFormat"], series["metric"]), points))
    return lines


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def _graph(title: str, lines: list[Line]) -> str:
    # Those that have something to show first: a legend of zeros says nothing.
    lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    top = max((value for line in lines for _, value in line.points), default=0.0) or 1.0
    start = min((moment for line in lines for moment, _ in line.points), default=0.0)
    end = max((moment for line in lines for moment, _ in line.points), default=1.0)
    parts = [
        f'<text x="{MARGIN}" y="20" font-weight="bold" font-size="13">{html.escape(title)}</text>',
        f'<path d="M{PLOT_LEFT} {PLOT_TOP}V{PLOT_BOTTOM}H{PLOT_RIGHT}" fill="none" stroke="#999999"/>',
        f'<text x="{PLOT_LEFT - 4}" y="{PLOT_TOP + 6}" text-anchor="end">{_short(top)}</text>',
        f'<text x="{PLOT_LEFT - 4}" y="{PLOT_BOTTOM}" text-anchor="end">0</text>',
    ]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="{_path(line, start, end, top)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < LEGENDS:
            x, y = PLOT_LEFT + number % 3 * 115, PLOT_BOTTOM + 17 + number // 3 * 15
            parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{html.escape(line.name[:18])}</text>')
    return "".join(parts)


def _path(line: Line, start: float, end: float, top: float) -> str:
    span = (end - start) or 1.0
    xs = (PLOT_LEFT + (moment - start) / span * (PLOT_RIGHT - PLOT_LEFT) for moment, _ in line.points)
    ys = (PLOT_BOTTOM - max(0.0, value) / top * (PLOT_BOTTOM - PLOT_TOP) for _, value in line.points)
    # Where the series had a gap (a worker that was down), so has the line.
    moves = ["M"] + [
        "M" if b[0] - a[0] > span / 40 else "L" for a, b in zip(line.points, line.points[1:], strict=False)
    ]
    return "".join(f"{move}{x:.1f} {y:.1f}" for move, x, y in zip(moves, xs, ys, strict=True))


def _short(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
