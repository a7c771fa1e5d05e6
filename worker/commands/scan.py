"""`decoder scan`: extraction alone, offline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from mission.cli.console import complain, emit_json, emit_records, json_option, note_terminal, say
from mission.cli.help import Command
from mission.errors import MissionFailed
from worker.extract import Extractor, decode_body
from worker.settings import WorkerSettings

STDIN = "-"
MAX_BYTES = 1024**3


class _Unreadable(Exception):
    """An input that cannot be scanned; the text says why."""


@click.command(cls=Command, settings=WorkerSettings, reads=("markers", "max_record"))
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option("--show", is_flag=True, help="Print the secrets' values; they are masked otherwise.")
@click.option("--markers", metavar="'OPEN CLOSE'", help="Opening and closing marker.  [default: DECODER_MARKERS]")
@json_option
def scan(files: tuple[str, ...], show: bool, markers: str | None, as_json: bool) -> None:
    """Find the secrets in files, or in what comes on standard input.

    Nothing is fetched and nothing is stored. The charset is that of a byte order mark, else UTF-8. An input that cannot be
    read is a line on stderr; the others go on, and the exit code is 1.

    \b
    Example:
      decoder scan --show letter.txt notes/*.md
      curl -s https://docs.example.com/page | decoder scan --json
    """
    inputs = files or (STDIN,)
    if STDIN in inputs and (sys.stdin is None or (not files and sys.stdin.isatty())):
        raise click.UsageError("takes files, or - for standard input")
    if STDIN in inputs:
        note_terminal("a document")
    settings = WorkerSettings.from_env(**({} if markers is None else {"markers": markers}))
    extractor = Extractor(settings.marker_pair, settings.max_record)
    rows: list[dict[str, Any]] = []
    failed = 0
    for name in inputs:
        source = click.format_filename(name)
        try:
            secrets = extractor.extract(decode_body(_read(name), None))
        except (_Unreadable, MissionFailed) as problem:
            failed += 1
            complain(f"{source}: {problem}")
            continue
        shown = [secret.as_dict(show=show) for secret in secrets]
        if as_json:
            emit_json({"source": source, "secrets": shown})
        rows += (row | {"place": f"{source}:{row['line']}:{row['column']}"} for row in shown)
    if not as_json:
        emit_records(rows, as_json=False, fields=("place", "detector", "category", "value"))
        say(f"{len(rows)} secrets found")
    sys.exit(1 if failed else 0)


def _read(name: str) -> bytes:
    """All of it. A file that is too large is not even begun; what has no size of its own is read up to the cap."""
    try:
        if name == STDIN:
            return _capped(sys.stdin.buffer)
        with Path(name).open("rb") as file:
            return _capped(file, os.fstat(file.fileno()).st_size)
    except (OSError, ValueError) as error:
        raise _Unreadable(getattr(error, "strerror", None) or "cannot be read") from None


def _capped(file: BinaryIO, size: int = 0) -> bytes:
    body = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if max(size, len(body)) > MAX_BYTES:
        raise _Unreadable(f"holds more than {MAX_BYTES} bytes")
    return body
