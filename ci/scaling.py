"""Write the tables of docs/SCALING.md: the model's constants, and the output of `decoder capacity`.

Run `python -m ci.scaling`; a test fails if the document is out of date. `python -m benchmarks.capacity --write` measures the constants again.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from ci.configuration import with_block
from mission.settings import PREFIX
from worker.capacity import GIB
from worker.cli import main as decoder
from worker.costs import MODEL, Cost

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "SCALING.md"
END = "<!-- end -->"
CHECKS = "<!-- checks: made by `python -m benchmarks.capacity --write` -->"
EXAMPLE = "decoder capacity --missions-per-day 50M --document-kb 40 --latency 200ms"
LOADS = {"10⁶": "1M", "10⁸": "100M", "10⁹": "1G"}
# How long finished missions and results are kept: the defaults, then shorter periods.
RETENTIONS = {
    "30 d, 7 d": "",
    "2 d, 1 d": " --ledger-ttl 2d --result-ttl 1d",
    "2 h, 2 h": " --ledger-ttl 2h --result-ttl 2h",
}
_PARTS = {
    "mission": "a mission",
    "document_kb": "each KB of its document",
    "record": "its record, if it has secrets",
    "secret": "each secret in the record",
    "waiting_second": "one second of a mostly waiting worker, divided by the missions that it does in that second",
    "alone": "enqueued one by one, not by `enqueue_many`; busy worker",
    "alone_waiting": "enqueued one by one; mostly waiting worker",
}


def printed(command: str) -> str:
    """The output of a `decoder` command with the default settings."""
    unset = {name: None for name in os.environ if name.upper().startswith(PREFIX)}
    result = CliRunner().invoke(decoder, shlex.split(command)[1:], env=unset, catch_exceptions=False)
    return result.stdout.rstrip("\n")


def costs() -> str:
    """The model's constants as a Markdown table."""
    rows = [
        "| | worker CPU ms | Redis CPU µs | Redis commands | bytes to Redis | bytes from Redis |",
        "|---|---|---|---|---|---|",
    ]
    for part, says in _PARTS.items():
        cost = getattr(MODEL, part)
        rows.append(f"| {says} | " + " | ".join(f"{getattr(cost, column.name):,g}" for column in fields(Cost)) + " |")
    stored = MODEL.stored
    rows += ["", "| bytes in Redis | |", "|---|---|"]
    rows += [f"| {one.name.replace('_', ' ')} | {getattr(stored, one.name):,g} |" for one in fields(stored)]
    rows += ["", f"A mission occupies a slot for the server's latency plus {MODEL.slot_ms:g} ms."]
    return "\n".join(rows)


def loads() -> str:
    """The three loads with each retention, as a Markdown table."""
    head = (
        "missions a day",
        "retention: finished, results",
        "worker pods",
        "worker CPU at the peak, cores",
        "Redis' thread at the peak",
        "Redis' memory, GiB",
        "from the sites, Mbit/s",
        "breaks first",
        "releases",
    )
    rows = [head, ("---",) * len(head)]
    for number, argument in LOADS.items():
        for kept, options in RETENTIONS.items():
            found = json.loads(printed(f"decoder capacity --missions-per-day {argument} --bulk{options} --json"))
            rows.append((number, kept, *_cells(found)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(found: Mapping[str, Any]) -> Iterator[str]:
    first = found["limits"][found["breaks_first"]]
    yield f"{found['pods']:,}"
    yield f"{found['worker_cores_peak']:,.1f}"
    yield f"{found['redis_thread_peak']:.0%}"
    yield f"{found['redis_memory_bytes'] / GIB:,.0f}"
    yield f"{found['sites_in_mbit_peak']:,.0f}"
    yield found["breaks_first"] if first["needed"] > first["most"] else "nothing"
    yield f"{found['releases']}"


BLOCKS = {
    "<!-- costs: made by `python -m ci.scaling` -->": costs,
    "<!-- example: made by `python -m ci.scaling` -->": lambda: f"```console\n$ {EXAMPLE}\n{printed(EXAMPLE)}\n```",
    "<!-- loads: made by `python -m ci.scaling` -->": loads,
}


def with_tables(document: str) -> str:
    """The document with its tables regenerated."""
    for begin, block in BLOCKS.items():
        document = with_block(document, begin, END, block())
    return document


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
