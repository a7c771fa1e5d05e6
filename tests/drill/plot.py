"""A dashboard's panels as SVG: graphs, a heat map, single numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# In pixels, of a panel and of the axes in it.
WIDTH, HEIGHT, MARGIN = 400, 180, 14
LEFT, RIGHT, TOP, BOTTOM = 58, 390, 30, 130
STAT_WIDTH, STAT_HEIGHT = 133, 56
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#c4162a", "#8f3bb8", "#b8860b")
LEGENDS, LEGEND_LENGTH = 6, 19
UNITS = {"s": " s", "percentunit": " %", "ops": "/s", "bytes": "B", "Bps": "B/s", "short": ""}

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a panel: its name, and its points as seconds since the epoch and value."""

    name: str
    points: list[tuple[float, float]]


def page(stats: Sequence[str], graphs: Sequence[str], *, columns: int = 3) -> str:
    """Single numbers in rows on top, graphs below."""
    across = columns * WIDTH // STAT_WIDTH
    below = -(-len(stats) // across) * STAT_HEIGHT
    height = below + -(-len(graphs) // columns) * HEIGHT
    parts = [
        f'<g transform="translate({number % across * STAT_WIDTH},{number // across * STAT_HEIGHT})">{stat}</g>'
        for number, stat in enumerate(stats)
    ] + [
        f'<g transform="translate({number % columns * WIDTH},{below + number // columns * HEIGHT})">{graph}</g>'
        for number, graph in enumerate(graphs)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def stat(title: str, unit: str, value: float) -> str:
    """A number and what it is."""
    return (
        f'<text x="{MARGIN}" y="18">{html.escape(title)}</text>'
        f'<text x="{MARGIN}" y="42" font-size="20" font-weight="bold" fill="{COLOURS[0]}">{_short(value, unit)}</text>'
    )


def graph(title: str, unit: str, lines: Sequence[Line], window: Window) -> str:
    """Lines over time, those with most to show first."""
    lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    # Of a closed set's series that stayed at zero, one stands for all.
    lines = [line for line in lines if any(value for _, value in line.points)] or lines[:1]
    top = max((value for line in lines for _, value in line.points), default=0.0) or 1.0
    parts = [_frame(title, _short(top, unit), "0")]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="{_path(line, window, top)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < LEGENDS:
            x, y = LEFT + number % 3 * 113, BOTTOM + 17 + number // 3 * 15
            name = html.escape(line.name[:LEGEND_LENGTH])
            parts.append(f'<text x="{x}" y="{y}" font-size="10" fill="{colour}">{name}</text>')
    return "".join(parts)


def heatmap(title: str, buckets: Sequence[Line], window: Window) -> str:
    """Cumulative histogram buckets, named by their upper bounds, as how many there were in each."""
    buckets = sorted(buckets, key=lambda line: float(line.name))
    height = (BOTTOM - TOP) / max(1, len(buckets))
    below: dict[float, float] = {}
    cells = []
    for number, bucket in enumerate(buckets):
        for moment, total in bucket.points:
            if (count := total - below.get(moment, 0.0)) > 0.01:
                cells.append((moment, number, count))
        below = dict(bucket.points)
    most = max((count for _, _, count in cells), default=1.0)
    width = max(1.0, (RIGHT - LEFT) / max(1, len({moment for moment, _, _ in cells})))
    parts = [_frame(title, buckets[-1].name if buckets else "", buckets[0].name if buckets else "")]
    parts += [
        f'<rect x="{_x(moment, window):.0f}" y="{BOTTOM - (number + 1) * height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="{COLOURS[1]}" fill-opacity="{max(0.15, (count / most) ** 0.5):.2f}"/>'
        for moment, number, count in cells
    ]
    return "".join(parts) + f'<text x="{LEFT}" y="{BOTTOM + 17}" font-size="10">upper bounds in seconds</text>'


def _frame(title: str, top: str, bottom: str) -> str:
    return (
        f'<text x="{MARGIN}" y="20" font-weight="bold" font-size="13">{html.escape(title)}</text>'
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#999999"/>'
        f'<text x="{LEFT - 4}" y="{TOP + 6}" text-anchor="end">{top}</text>'
        f'<text x="{LEFT - 4}" y="{BOTTOM}" text-anchor="end">{bottom}</text>'
    )


def _x(moment: float, window: Window) -> float:
    return LEFT + (moment - window[0]) / (window[1] - window[0]) * (RIGHT - LEFT)


def _path(line: Line, window: Window, top: float) -> str:
    places = [(_x(moment, window), BOTTOM - max(0.0, value) / top * (BOTTOM - TOP)) for moment, value in line.points]
    # Where the series had a gap (a worker that was down), so has the line.
    moves = ["M"] + ["M" if b[0] - a[0] > (RIGHT - LEFT) / 40 else "L" for a, b in pairwise(places)]
    return "".join(f"{move}{x:.0f} {y:.1f}" for move, (x, y) in zip(moves, places, strict=True))


def _short(value: float, unit: str) -> str:
    if unit == "percentunit":
        value *= 100
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}{UNITS[unit].strip()}".strip()
    return f"{value:.3g}{UNITS[unit]}"
