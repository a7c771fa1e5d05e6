"""Write the tables of metrics into docs/metrics.md, between their marks, from the catalogue that a worker serves.

Run `python -m ci.metrics`; a test fails if the tables are out of date.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

import worker.work.endings  # noqa: F401 (its import creates the series of missions that ended, at zero)
from ci.configuration import with_block
from mission.model import Priority, Stats
from mission.store.server import Condition
from worker.observe import metrics
from worker.observe.collectors import LedgerCollector, Vitals

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
TABLES = ("worker", "ledger")
PREFIX = "decoder_"
# The reference lists the values of a label only up to this number.
MOST_VALUES = 8
_ENDING = {"counter": "_total", "info": "_info"}
_TYPES = {"info": "gauge"}  # to Prometheus


def of_the_worker() -> list[Metric]:
    """Metrics that each worker reports about itself."""
    return [family for family in metrics.REGISTRY.collect() if family.name.startswith(PREFIX)]


def of_the_ledger() -> list[Metric]:
    """Metrics of the ledger, which every worker reports alike; from a stub ledger that always answers."""
    ledger = LedgerCollector()
    stats = Stats(queued=0, running=0, retrying=0, succeeded=0, failed=0, dead=0, cancelled=0, oldest_seconds=0)
    server = Condition(0, 0, evicts=False, aof_written=True, replicas=0, replica_lag=0.0, certificate_end=0.0)
    ledger.read = lambda: Vitals(
        stats,
        {},
        server,
        {("", ""): 0.0},
        damaged=0,
        audit_bytes=0,
        outcomes_bytes=0,
        waits=dict.fromkeys(Priority, 0.0),
    )
    return list(ledger.collect())


def table(families: Iterable[Metric]) -> str:
    """Metrics as a Markdown table: name as scraped, type, labels, meaning."""
    rows = [
        f"| `{family.name}{_ENDING.get(family.type, '')}` | {_TYPES.get(family.type, family.type)} | {_labels(family)} | {family.documentation} |"
        for family in families
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def with_tables(document: str) -> str:
    """The document with its tables regenerated."""
    for name, families in zip(TABLES, (of_the_worker(), of_the_ledger()), strict=True):
        begin = f"<!-- metrics of the {name}: made by `python -m ci.metrics` -->"
        document = with_block(document, begin, f"<!-- end of metrics of the {name} -->", table(families))
    return document


def _labels(family: Metric) -> str:
    values: dict[str, set[str]] = {name: set() for name in _declared().get(family.name, ())}
    for sample in family.samples:
        for name, value in sample.labels.items():
            if name != "le":
                values.setdefault(name, set()).add(value)
    return "; ".join(_label(name, sorted(found), family.type) for name, found in values.items())


def _label(name: str, values: list[str], kind: str) -> str:
    listed = [f"`{value}`" for value in values if value]
    return f"`{name}`" + (f": {', '.join(listed)}" if kind != "info" and 0 < len(listed) <= MOST_VALUES else "")


def _declared() -> dict[str, tuple[str, ...]]:
    """The labels of metrics without series, which the library shows nowhere else."""
    return {
        metric._name: metric._labelnames  # noqa: SLF001 (as above)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
