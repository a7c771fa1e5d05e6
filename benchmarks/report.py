"""From samples to a table: medians, and ratios of systems that ran in the same round."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

import click

from benchmarks.measure import Sample
from mission.cli.console import emit_json, emit_table
from mission.errors import DecoderError
from worker.local.stack import ending_on_signals

_HEAD = ("", "missions/s", "min to max", "enqueue s", "worker CPU ms")
_RATIO_HEAD = ("ratio of missions/s", "median", "min to max")


class Report:
    """Collects samples. Systems stand in the order in which they first came: in a first round, that of the contenders."""

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}

    def add(self, sample: Sample) -> None:
        """Take one up. Samples of a system come in the order of the rounds."""
        self._samples.setdefault(sample.system, []).append(sample)

    def ratios(self) -> Iterator[tuple[str, str, list[float]]]:
        """For each two systems, the one named first, the other, and their ratio in each round."""
        names = list(self._samples)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                pairs = zip(self._samples[one], self._samples[other], strict=True)
                yield one, other, [a.rate / b.rate for a, b in pairs]

    def show(self, *, as_json: bool) -> None:
        """Print a row for each system, then one for each pair: a table for people, JSON lines for machines."""
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
            rows.append(
                (name, f"{median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}", enqueueing, cpu_text)
            )
        emit_table(_HEAD, rows)
        click.echo()
        ratios = [
            (f"{one} : {other}", f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}")
            for one, other, values in self.ratios()
        ]
        emit_table(_RATIO_HEAD, ratios)

    def lines(self) -> Iterator[dict[str, Any]]:
        """For machines: a line for each system, then one for each pair."""
        for name, samples in self._samples.items():
            yield {
                "system": name,
                "missions": samples[0].missions,
                "rates": [round(sample.rate, 1) for sample in samples],
                "enqueue_seconds": [round(sample.enqueue_seconds, 3) for sample in samples],
                "cpu_ms": [None if sample.cpu_ms is None else round(sample.cpu_ms, 3) for sample in samples],
            }
        for one, other, values in self.ratios():
            yield {"system": one, "beside": other, "ratios": [round(value, 3) for value in values]}


def report(rounds: Iterable[tuple[int, Sample]]) -> Report:
    """The report of these rounds, each sample told on stderr as it comes. Ends with 1 where a system did not do its work."""
    found = Report()
    try:
        with ending_on_signals():
            for number, sample in rounds:
                found.add(sample)
                click.echo(f"round {number + 1}: {sample.system}: {sample.rate:.0f}/s", err=True)
    except DecoderError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    return found
