"""`decoder scan`: extraction alone, offline."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import click

from mission.cli.console import emit_json, emit_table, json_option, note_terminal
from mission.cli.help import Command
from mission.errors import MissionFailed
from mission.model import Secret
from worker.extract import Extractor, decode_body
from worker.settings import WorkerSettings

STDIN = "-"
MAX_BYTES = 1024**3


class _Unreadable(Exception):
    """An input that cannot be scanned; the text says why."""


@click.command(cls=Command, settings=WorkerSettings, reads=("markers",))
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option("--show", is_flag=True, help="Print the secrets' values; they are masked otherwise.")
@click.option("--markers", metavar="'OPEN CLOSE'", help="Opening and closing marker.  [default: DECODER_MARKERS]")
@json_option
def scan(files: tuple[str, ...], show: bool, markers: str | None, as_json: bool) -> None:
    """Find the secrets in files, or in what comes on standard input.

    Nothing is fetched and nothing is stored. The charset is that of a byte order mark, else UTF-8. An input that cannot be read is a line on stderr; the others
    go on, and the exit code is 1.

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
    extractor = Extractor(settings.marker_pair)
    found: list[tuple[str, Secret]] = []
    failed = 0
    for name in inputs:
        source = click.format_filename(name)
        try:
            secrets = extractor.extract(decode_body(_read(name), None))
        except (_Unreadable, MissionFailed) as problem:
            failed += 1
            click.echo(f"error: {source}: {problem}", err=True)
            continue
        if as_json:
            emit_json({"source": source, "secrets": [secret.as_dict(show=show) for secret in secrets]})
        found += ((source, secret) for secret in secrets)
    if not as_json:
        _print(found, show=show)
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


def _print(found: Iterable[tuple[str, Secret]], *, show: bool) -> None:
    rows = []
    for source, secret in found:
        shown = secret.as_dict(show=show)
        place = f"{source}:{secret.line}:{secret.column}"
        rows.append((place, shown["detector"], shown["category"], shown["value"]))
    if rows:
        emit_table(("PLACE", "DETECTOR", "CATEGORY", "VALUE"), rows)
    click.echo(f"{len(rows)} secrets found")
