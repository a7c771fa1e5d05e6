"""Enqueue a file of any number of URLs from cron, one URL a line; after any interruption, run it again.

It shows how to make a bulk load idempotent. All lines use one idempotency key, the run: a URL that was already admitted under
this key is a duplicate and changes nothing. So there is no position to store or to lose: to continue, run it again. Memory
does not grow with the file. The program waits while the queue is full, a quota is used up or Redis is down. The run is one
batch, and the summary contains its id: `mission status --batch ID` counts its missions by state.

    export DECODER_REDIS_URL=redis://producer:password@127.0.0.1:6379/0 DECODER_URL_KEY=/etc/decoder/url.key
    python examples/enqueue_file.py urls.txt

    # crontab: every night at 2:05, but not while the last run continues
    5 2 * * *  flock -n /run/lock/urls.lock python examples/enqueue_file.py /srv/urls.txt --submitter nightly

Prints a summary as JSON. Refused lines are written to FILE.refused (number, reason and URL, separated by tabs), which
only you can read: a URL may contain a credential. Exit codes: 0 all lines are admitted, 1 some were refused or the time was
up, 2 usage or settings error, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

import click
from tqdm import tqdm

from mission.errors import DecoderError
from producer import Batch, LedgerUnavailable, MissionClient, QueueFull, QuotaExceeded, SettingsError, Ticket

CHUNK = 256  # per call to Redis: either all of them are admitted, or none is known to be
MAX_LINE_BYTES = 65536  # far above the longest admissible URL
FULL_SECONDS = 2.0

Line = tuple[int, str]


@dataclass(slots=True)
class Summary:
    """How many lines were admitted, were duplicates, and were refused."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0


class Loader:
    """Enqueues lines and counts the results.

    Args:
        batch: enqueues the lines under the run's idempotency key.
        refused: receives the refused lines.
        patience_seconds: how long to keep trying while nothing is admitted.
    """

    def __init__(self, batch: Batch, refused: TextIO, *, patience_seconds: float) -> None:
        self.summary = Summary()
        self._batch = batch
        self._refused = refused
        self._patience_seconds = patience_seconds

    def load(self, lines: list[Line]) -> None:
        """Enqueue these lines, with as many attempts as needed.

        Raises:
            DecoderError: nothing was admitted for too long; the error says why.
        """
        give_up = time.monotonic() + self._patience_seconds
        while lines:
            later, obstacle, pause = self._try(lines)
            if obstacle is not None:
                if len(later) < len(lines):
                    give_up = time.monotonic() + self._patience_seconds
                if time.monotonic() + pause > give_up:
                    raise obstacle
                time.sleep(pause)
            lines = later

    def _try(self, lines: list[Line]) -> tuple[list[Line], DecoderError | None, float]:
        """The lines to retry, why, and after how many seconds."""
        later: list[Line] = []
        obstacle: DecoderError | None = None
        pause = 0.0
        try:
            verdicts = self._batch.add(url for _, url in lines)
        except LedgerUnavailable as error:
            return lines, error, FULL_SECONDS
        for line, verdict in zip(lines, verdicts, strict=True):
            if isinstance(verdict, QueueFull | QuotaExceeded):
                later.append(line)
                obstacle = verdict
                pause = max(pause, FULL_SECONDS if isinstance(verdict, QueueFull) else verdict.retry_after)
            else:
                self._count(line, verdict)
        return later, obstacle, pause

    def _count(self, line: Line, verdict: Ticket | DecoderError) -> None:
        if isinstance(verdict, Ticket):
            self.summary.accepted += not verdict.duplicate
            self.summary.duplicates += verdict.duplicate
        else:
            self.summary.refused += 1
            number, url = line
            self._refused.write(f"{number}\t{verdict.reason}\t{url}\n")


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines that are not empty, numbered from 1. Only the beginning of an overlong line is kept."""
    number = 0
    while piece := file.readline(MAX_LINE_BYTES):
        number += 1
        beginning = piece
        while piece and not piece.endswith(b"\n"):
            piece = file.readline(MAX_LINE_BYTES)
        if text := beginning.decode("utf-8", "backslashreplace").rstrip("\r\n"):
            yield number, text


def open_private(path: Path) -> TextIO:
    """Create a file that only this user may read; replace an existing one."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))  # as it is written
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--run", metavar="NAME", help="Each line is admitted once per run.  [default: FILE's name and its date]")
@click.option("--submitter", default="bulk", show_default=True, help="Name that quotas and keys apply to.")
@click.option(
    "--patience", type=click.FloatRange(0), default=600.0, show_default=True, help="Seconds to wait without progress."
)
def main(file: Path, run: str | None, submitter: str, patience: float) -> None:
    """See the module."""
    refused_path = file.with_name(f"{file.name}.refused")
    run = run or f"{file.name[-200:]} {file.stat().st_mtime_ns}"
    began, code = time.monotonic(), 0
    try:
        client = MissionClient.from_env()
        with file.open("rb") as source, open_private(refused_path) as refused:
            batch = client.batch(submitter=submitter, idempotency_key=run)
            loader = Loader(batch, refused, patience_seconds=patience)
            lines = read_lines(source)
            with tqdm(total=file.stat().st_size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
                try:
                    while chunk := list(islice(lines, CHUNK)):
                        loader.load(chunk)
                        bar.update(source.tell() - bar.n)
                except KeyboardInterrupt:
                    click.echo("interrupted; run it again to continue", err=True)
                    code = 130
                except (DecoderError, OSError) as error:
                    click.echo(f"error: {error}; run it again to continue", err=True)
                    code = 1
    except (SettingsError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if not loader.summary.refused:
        refused_path.unlink()
    click.echo(json.dumps(asdict(loader.summary) | {"batch": batch.id, "seconds": round(time.monotonic() - began, 1)}))
    sys.exit(code or (1 if loader.summary.refused else 0))


if __name__ == "__main__":
    main()
