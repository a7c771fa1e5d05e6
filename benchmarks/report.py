"""From samples to a table: medians, and ratios of systems that ran in the same round."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.measure import Sample
from benchmarks.plot import plot
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals

_HEAD = ("", "missions/s", "min to max", "enqueue s", "worker CPU ms", "peak MiB")
_RATIO_HEAD = ("ratio of missions/s", "median", "min to max")


class Report:
    """Collects samples. Systems keep the order of their first sample: in the first round, the contenders' order.

    Args:
        ours: the first `ours` systems are compared to every system after them.
    """

    def __init__(self, ours: int = 1) -> None:
        self._ours = ours
        self._samples: dict[str, list[Sample]] = {}

    def add(self, sample: Sample) -> None:
        """Add a sample. Samples of a system must come in the order of the rounds."""
        self._samples.setdefault(sample.system, []).append(sample)

    def ratios(self) -> Iterator[tuple[str, str, list[float]]]:
        """For each of ours and each system after it: both names, and their ratio in each round."""
        names = list(self._samples)
        for index, one in enumerate(names[: self._ours]):
            for other in names[index + 1 :]:
                pairs = zip(self._samples[one], self._samples[other], strict=True)
                yield one, other, [a.rate / b.rate for a, b in pairs]

    def show(self, *, as_json: bool) -> None:
        """Print a row for each system, then a row for each pair: a table for people, JSON lines for machines."""
        if as_json:
            for line in self.lines():
                emit_json(line)
            return
        rows = []
        for name, samples in self._samples.items():
            rates = [sample.rate for sample in samples]
            cpu = [sample.cpu_ms for sample in samples if sample.cpu_ms is not None]
            enqueueing = f"{median(sample.enqueue_seconds for sample in samples):.2f}"
            cpu_text = f"{median(cpu):.2f}" if cpu else "?"
            peak = max((sample.peak_bytes or 0 for sample in samples), default=0)
            peak_text = f"{peak / 1024**2:.0f}" if peak else "?"
            extremes = f"{min(rates):,.0f} to {max(rates):,.0f}"
            rows.append((name, f"{median(rates):,.0f}", extremes, enqueueing, cpu_text, peak_text))
        emit_table(_HEAD, rows)
        click.echo()
        ratios = [
            (f"{one} : {other}", f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}")
            for one, other, values in self.ratios()
        ]
        emit_table(_RATIO_HEAD, ratios)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The JSON lines: one for each system, then one for each pair."""
        for name, samples in self._samples.items():
            yield {
                "system": name,
                "missions": samples[0].missions,
                "rates": [round(sample.rate, 1) for sample in samples],
                "enqueue_seconds": [round(sample.enqueue_seconds, 3) for sample in samples],
                "peak_bytes": [sample.peak_bytes for sample in samples],
                "cpu_ms": [None if sample.cpu_ms is None else round(sample.cpu_ms, 3) for sample in samples],
            }
        for one, other, values in self.ratios():
            yield {"system": one, "beside": other, "ratios": [round(value, 3) for value in values]}

    def write(self, folder: Path, **about: Any) -> None:
        """Write `throughput.json`, with the facts `about` the run, and the plot into a folder; create the folder if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(about | {"results": list(self.lines())}, indent=1)
        (folder / "throughput.json").write_text(f"{text}\n", encoding="utf-8")
        rates = {name: [sample.rate for sample in samples] for name, samples in self._samples.items()}
        (folder / "throughput.svg").write_text(plot(rates), encoding="utf-8")


def report(rounds: Iterable[tuple[int, Sample]], ours: int = 1) -> Report:
    """Report these rounds; print each sample on stderr as it comes. Exit with 1 if a system did not do its work."""
    found = Report(ours)
    try:
        with ending_on_signals():
            for number, sample in rounds:
                found.add(sample)
                click.echo(f"round {number + 1}: {sample.system}: {sample.rate:.0f}/s", err=True)
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    return found
