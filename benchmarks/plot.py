"""The plot of a report: missions a second, a bar for each system, with the extremes of its rounds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from statistics import median

import pygal

# It stays in the way of every later import: a finder of a kind that Python gave up.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]


def plot(rates: Mapping[str, Sequence[float]]) -> str:
    """An SVG from the rates in each round, by system; the first system stands at the top."""
    longest = 1.1 * max(map(max, rates.values()))
    chart = pygal.HorizontalBar(
        js=(),
        width=900,
        height=60 + 45 * len(rates),
        range=(0, longest),
        show_legend=False,
        print_values=True,
        title="missions/s: median of the rounds, and the extremes",
        value_formatter=lambda value: f"{value:,.0f}",
    )
    systems = list(rates)[::-1]
    chart.x_labels = systems
    chart.add(
        "missions/s",
        [{"value": median(rates[name]), "ci": {"low": min(rates[name]), "high": max(rates[name])}} for name in systems],
    )
    return str(chart.render(is_unicode=True, disable_xml_declaration=True))
