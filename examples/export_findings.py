"""Export a day's findings as JSON lines or CSV; the audit records each read before it happens.

It shows `mission.ResultReader`: `results` lists the results between two times and opens nothing; `reveal` opens one result
for a reason, which is recorded first. A mission that found nothing has no result. The audit's log lines go to standard
error: keep them.

    export DECODER_REDIS_URL=redis://reader:password@127.0.0.1:6379/0 DECODER_IDENTITY_FILE=/etc/decoder/reader.key
    python examples/export_findings.py findings.csv --day 2026-05-04 --reason "weekly review, ticket 4711"

The file holds secrets in clear text. Only you can read it, and it appears once it is complete. The extension of its name
selects the format. In CSV, `value` and the other texts are JSON strings, since the document controls them. So each cell
begins with a quotation mark and never with the start of a formula, no text can break out of its cell or line, and
`json.loads` gives the exact text. `--min-confidence high` leaves out findings that rules are less sure of; `certain` keeps only
what is between markers.

Prints a summary as JSON. Exit codes: 0 done, 1 a result could not be opened or the export ended early, 2 usage or settings
error, 130 interrupted.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from mission import ResultReader, SealedResult
from mission.cli.console import confidence_option, why_option
from mission.errors import DecoderError, ResultUnavailable, SealError, SettingsError, UnknownMission
from mission.model import Confidence

FORMATS = (".jsonl", ".csv")
# Texts that a document controls.
TEXTS = ("detector", "category", "value", "path", "encoding")
FIELDS = ("id", "finished_at", *TEXTS, "confidence", "line", "column", "count")

Row = dict[str, Any]


@dataclass(slots=True)
class Summary:
    """Counts: results opened, secrets exported, results gone since they were listed, results that do not open."""

    opened: int = 0
    secrets: int = 0
    gone: int = 0
    unreadable: int = 0


def read(
    reader: ResultReader, results: Iterable[SealedResult], reason: str, least: Confidence, summary: Summary
) -> Iterator[Row]:
    """The secrets of these results with at least the confidence `least`, one at a time."""
    wanted = Confidence.at_least(least)
    for result in results:
        try:
            secrets = reader.reveal(result.id, reason=reason)
        except (ResultUnavailable, UnknownMission):  # expired or forgotten since they were listed
            summary.gone += 1
            continue
        except SealError as error:
            summary.unreadable += 1
            click.echo(f"error: mission {result.id}: {error}", err=True)
            continue
        summary.opened += 1
        for secret in secrets:
            if secret.confidence in wanted:
                summary.secrets += 1
                yield {"id": result.id, "finished_at": result.finished_at} | secret.as_dict()


def write_jsonl(file: TextIO, rows: Iterable[Row]) -> None:
    """Write one JSON object a line."""
    for row in rows:
        file.write(json.dumps(row) + "\n")


def write_csv(file: TextIO, rows: Iterable[Row]) -> None:
    """Write a table (RFC 4180) in which no spreadsheet finds a formula."""
    table = csv.DictWriter(file, FIELDS, quoting=csv.QUOTE_ALL)
    table.writeheader()
    for row in rows:
        table.writerow(row | {name: inert(row[name]) for name in TEXTS})


def inert(text: str) -> str:
    """The text as a JSON string without a semicolon: some spreadsheets split at it even inside quotes."""
    return json.dumps(text).replace(";", "\\u003b")


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A file only for this user, which gets its name once it is complete and on disk; after an error it is deleted."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def end(_signal: int, _frame: object) -> NoReturn:
    """End like Ctrl-C, with cleanup."""
    raise KeyboardInterrupt


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))  # as it is written
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@why_option()
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Day to export, UTC.  [default: yesterday]")
@confidence_option("Export findings with at least this confidence.")
def main(file: Path, reason: str, day: datetime | None, min_confidence: Confidence) -> None:
    """See the module."""
    if file.suffix not in FORMATS:
        raise click.UsageError(f"the file's name ends with {' or '.join(FORMATS)}")
    begin = (day or datetime.now(UTC) - timedelta(days=1)).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC
    )
    write = write_csv if file.suffix == ".csv" else write_jsonl
    summary = Summary()
    signal.signal(signal.SIGTERM, end)
    try:
        reader = ResultReader.from_env()
        with whole_file(file) as target:
            results = reader.results(begin, begin + timedelta(days=1))
            write(target, read(reader, results, reason, min_confidence, summary))
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        sys.exit(130)
    except (DecoderError, OSError) as error:
        click.echo(f"error: {error}; nothing was written", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    click.echo(json.dumps(asdict(summary)))
    sys.exit(1 if summary.unreadable else 0)


if __name__ == "__main__":
    main()
