"""The plot of a report: missions per second, a bar for each system, with the extremes of its rounds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib import rc_context
from matplotlib.figure import Figure


def plot(rates: Mapping[str, Sequence[float]]) -> str:
    """Draw an SVG of each system's rates in all rounds; the first system is at the top."""
    systems = list(rates)[::-1]
    medians = [median(rates[name]) for name in systems]
    figure = Figure(figsize=(9, 1 + 0.45 * len(systems)), layout="constrained")
    axes = figure.subplots()
    below = [middle - min(rates[name]) for name, middle in zip(systems, medians, strict=True)]
    above = [max(rates[name]) - middle for name, middle in zip(systems, medians, strict=True)]
    bars = axes.barh(systems, medians, xerr=(below, above), color="#3274d9", ecolor="#333333", capsize=3)
    axes.bar_label(bars, fmt="{:,.0f}", padding=6)
    axes.set_title("Throughput: median of the rounds, and the extremes")
    axes.set_xlabel("missions per second")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(text, format="svg")
    return text.getvalue()
