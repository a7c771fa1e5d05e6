"""The cost of finding secrets, compared to Yelp's detect-secrets on the same files: `python -m benchmarks.extraction`."""

from __future__ import annotations

import operator
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median, quantiles

import click
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from benchmarks.corpus import KINDS, Document, corpus
from benchmarks.measure import on_cores
from benchmarks.site import document
from mission.cli.console import emit_records
from worker.extract import Detectors, Extractor
from worker.extract.detectors import GENERIC, MARKER, NO_ENGINE, PROVIDER, engine_installed

# detect-secrets gets one document out of this many; it would take minutes for all.
SAMPLE = 8
SMALL, SMALL_REPEATS = 2 * 1024, 2000
MIDDLE, MIDDLE_DOCUMENTS = 64 * 1024, 500
GROWTH_MB = (1, 2, 4, 8, 16)
EVERYTHING, PEER = "everything, sample", "detect-secrets, sample"

Scan = Callable[[Document], Iterable[str | None]]
Row = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of `mb` MB: wall-clock seconds and process CPU seconds, with the credentials planted and found in them."""

    mb: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    planted: int = 0
    found: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, astuple(self), astuple(other)))


def engine() -> Scan:
    """The engine and its catalog, without our code."""
    from kingfisher_sdk import Rules, Scanner  # not every platform has a wheel of it

    scanner = Scanner(Rules(confidence="low", cache_dir=Detectors().cache), base64=False)
    return lambda document: (finding.secret for finding in scanner.scan(document.body))


def ours(*names: str) -> Scan:
    """The named ones of our detectors, which also search encoded text."""
    extractor = Extractor(Detectors(names))
    return lambda document: (secret.value for secret in extractor.extract(document.body))


def peer(document: Document) -> Iterator[str | None]:
    """detect-secrets with all its plugins and default filters; none of them asks a service. The file's name gives the format."""
    return (secret.secret_value for secret in scan_file(str(document.file)))


def timed(scan: Scan, documents: Sequence[Document]) -> Cost:
    """The cost of these documents, scanned one after the other."""
    found: set[str | None] = set()
    cpu, wall = time.process_time(), time.perf_counter()
    for each in documents:
        found.update(scan(each))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    planted = {value for each in documents for value in each.planted}
    return Cost(sum(len(each.body) for each in documents) / 1e6, wall, cpu, len(planted), len(planted & found))


def rounds(documents: Sequence[Document], count: int) -> dict[str, list[dict[str, Cost]]]:
    """Each contender's costs in each round, by kind and in total; every second round reverses the order."""
    sample = [each for kind in KINDS for each in [one for one in documents if one.kind == kind][::SAMPLE]]
    everything = ours(MARKER, PROVIDER, GENERIC)
    contenders: dict[str, tuple[Scan, Sequence[Document]]] = {
        "engine alone": (engine(), documents),
        "provider": (ours(PROVIDER), documents),
        "generic": (ours(GENERIC), documents),
        "everything": (everything, documents),
        EVERYTHING: (everything, sample),
        PEER: (peer, sample),
    }
    for scan, texts in contenders.values():
        timed(scan, texts[:1])  # the first scan takes longer
    costs: dict[str, list[dict[str, Cost]]] = {name: [] for name in contenders}
    for number in range(count):
        for name, (scan, texts) in list(contenders.items())[:: 1 - 2 * (number % 2)]:
            click.echo(f"round {number + 1}: {name}", err=True)
            of_kinds = {kind: timed(scan, [each for each in texts if each.kind == kind]) for kind in KINDS}
            costs[name].append(of_kinds | {"all": sum(of_kinds.values(), Cost())})
    return costs


def speeds(costs: dict[str, list[dict[str, Cost]]]) -> Iterator[Row]:
    """MB per CPU second by kind, MB per wall-clock second in total, and the share of planted credentials that was found."""
    for name, each in costs.items():
        row: Row = {"mb_per_cpu_second": name}
        row |= {kind: _short(median(one[kind].mb / one[kind].cpu for one in each)) for kind in each[0]}
        row["by_the_clock"] = _short(median(one["all"].mb / one["all"].wall for one in each))
        yield row | {"found": _short(each[0]["all"].found / each[0]["all"].planted)}


def ratios(costs: dict[str, list[dict[str, Cost]]]) -> Iterator[Row]:
    """The speed of everything as a multiple of detect-secrets', on the same files in the same round."""
    pairs = list(zip(costs[EVERYTHING], costs[PEER], strict=True))
    summaries: dict[str, Callable[[list[float]], float]] = {"median": median, "min": min, "max": max}
    for name, of in summaries.items():
        row: Row = {"times_detect_secrets": name}
        yield row | {
            kind: _short(of([theirs[kind].cpu / ours[kind].cpu for ours, theirs in pairs])) for kind in pairs[0][0]
        }


def _short(figure: float) -> float:
    return float(f"{figure:.3g}")


def _pieces(documents: Sequence[Document], size: int, count: int) -> dict[str, list[bytes]]:
    """At most `count` pieces of each kind, of `size` characters."""
    texts = {kind: b"".join(each.body for each in documents if each.kind == kind).decode() for kind in KINDS}
    return {
        kind: [text[number * size :][:size].encode() for number in range(min(count, len(text) // size))]
        for kind, text in texts.items()
    }


def middle(documents: Sequence[Document]) -> Iterator[Row]:
    """Wall-clock milliseconds for a document of 64 KiB."""
    bodies = _pieces(documents, MIDDLE, MIDDLE_DOCUMENTS // len(KINDS))
    for name, detectors in {"provider": Detectors((PROVIDER,)), "everything": Detectors()}.items():
        extractor, times = Extractor(detectors), []
        for body in [each for of_kind in bodies.values() for each in of_kind]:
            began = time.perf_counter()
            extractor.extract(body)
            times.append(1000 * (time.perf_counter() - began))
        cuts = quantiles(times, n=100)
        yield {"64_kib": name, "p50_ms": _short(cuts[49]), "p99_ms": _short(cuts[98])}


def growth(documents: Sequence[Document]) -> Iterator[Row]:
    """CPU milliseconds per MB of a document that repeats the same MB, with every detector."""
    extractor = Extractor()
    one = b"".join(body for (body,) in _pieces(documents, 1_000_000 // len(KINDS), 1).values())
    for size in GROWTH_MB:
        times = []
        for _ in range(3):
            body, began = one * size, time.process_time()
            extractor.extract(body)
            times.append(1000 * (time.process_time() - began) / size)
        yield {"document_mb": size, "cpu_ms_per_mb": _short(median(times))}


def small(documents: Sequence[Document]) -> Iterator[Row]:
    """Additional wall-clock microseconds for a document of 2 KB, compared to markers only: the median of pairs."""
    alone, everything = Extractor(Detectors((MARKER,))), Extractor()
    for name, bodies in {"the site's": [document(1).encode()], **_pieces(documents, SMALL, 20)}.items():
        more: list[list[float]] = [[] for _ in bodies]
        for body, differences in islice(cycle(zip(bodies, more, strict=True)), SMALL_REPEATS):
            began = time.perf_counter()
            alone.extract(body)
            between = time.perf_counter()
            everything.extract(body)
            differences.append(time.perf_counter() - between - (between - began))
        yield {"2_kb": name, "us_more": _short(1e6 * mean(map(median, more)))}


@click.command()
@click.option("--mb", default=55, show_default=True, type=click.IntRange(2), help="Size of the corpus.")
@click.option("--rounds", "count", default=5, show_default=True, type=click.IntRange(1), help="Number of rounds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(mb: int, count: int, *, as_json: bool) -> None:
    """Measure the cost of finding secrets on one core, by kind of text and by detector.

    \b
    Example:
      python -m benchmarks.extraction --mb 10 --rounds 3
    """
    if not engine_installed():
        click.echo(f"error: {NO_ENGINE}", err=True)
        sys.exit(1)
    with tempfile.TemporaryDirectory() as folder, default_settings(), on_cores([max(os.sched_getaffinity(0))]):
        documents = list(corpus(Path(folder), mb * 1_000_000))
        costs = rounds(documents, count)
        for rows in (speeds(costs), ratios(costs), middle(documents), growth(documents), small(documents)):
            emit_records(rows, as_json=as_json)
            if not as_json:
                click.echo()


if __name__ == "__main__":
    main()
