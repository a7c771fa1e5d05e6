"""`mission enqueue`: enqueue URLs or a file of URLs, and report how the missions end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import TextIO

import click
from tqdm import tqdm

from mission.admission import DEFAULT_SUBMITTER
from mission.batch import CHUNK, Batch
from mission.cli.console import DurationType, complain, emit_json, json_option, note, note_terminal, say
from mission.cli.help import Command
from mission.client import MissionClient
from mission.model import Priority, Ticket
from mission.settings import Settings
from mission.units import counted
from producer.commands.wait import MANY, follow

_STDIN = "<stdin>"  # Python's name for standard input


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "url_key", "max_age", "queue_limit", "quota"))
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option(
    "--from-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    metavar="FILE|-",
    help="File with one URL per line; skips empty lines and lines that begin with #; '-' reads standard input.  [default: the URLs named]",
)
@click.option(
    "--submitter",
    default=DEFAULT_SUBMITTER,
    show_default=True,
    help="Submitter's name; quotas and keys apply per submitter.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same key and URL give the same mission, so it is safe to enqueue all URLs again.  [default: none]",
)
@click.option("--exclusive", is_flag=True, help="Bind the key to one URL: refuse any other URL.")
@click.option(
    "--expires", type=DurationType(), help="Give up after this time, like 90s, 5m or 24h.  [default: DECODER_MAX_AGE]"
)
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="How urgent they are: while all three wait, workers take 8 high for 4 normal and 1 low.",
)
@click.option("--wait", is_flag=True, help="Wait until all are finished; exit code 1 if one did not succeed.")
@click.option("--timeout", type=DurationType(), default="10m", show_default=True, help="How long --wait waits.")
@json_option
def enqueue(
    urls: tuple[str, ...],
    from_file: TextIO | None,
    submitter: str,
    idempotency_key: str | None,
    exclusive: bool,
    expires: float | None,
    priority: str,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Enqueue missions: URLs from the command line or from a file.

    Several URLs form a batch. `mission status --batch`, `wait --batch` and `list --batch` take its id. On a terminal, large batches
    are shown as totals.

    \b
    Example:
      mission enqueue https://docs.example.com/a https://docs.example.com/b
      mission enqueue --from-file urls.txt --submitter nightly --idempotency-key 2026-11-24 --json
    """
    if not urls and from_file is None:
        raise click.UsageError("name a URL, or a file of them: mission enqueue https://docs.example.com/page")
    if "-" in urls:
        raise click.UsageError("- is not a URL; to read URLs from standard input, use --from-file -")
    many = from_file is not None or len(urls) > 1
    if exclusive and (many or idempotency_key is None):
        raise click.UsageError("--exclusive needs exactly one URL and an --idempotency-key")
    for sentence in Settings.misspelt():
        note(sentence)
    client = MissionClient.from_env()
    follows = "`mission status ID`"
    try:
        if many:
            batch = client.batch(
                submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires, priority=priority
            )
            follows = f"`mission status --batch {batch.id}`"
            ids = _enqueue_many(batch, urls, from_file, as_json=as_json)
            refused = batch.refused.total()
        else:
            ticket = client.enqueue(
                urls[0],
                submitter=submitter,
                idempotency_key=idempotency_key,
                exclusive=exclusive,
                expires_seconds=expires,
                priority=priority,
            )
            ids, refused = [ticket.id], 0
            _tell(ticket, {}, as_json=as_json)
        missed = follow(client, ids, timeout, as_json=as_json) if wait and ids else 0
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"missions enqueued so far go on; check them with {follows}") from None
    if refused or missed:
        raise SystemExit(1)


def _enqueue_many(batch: Batch, urls: tuple[str, ...], source: TextIO | None, *, as_json: bool) -> list[str]:
    """Enqueue the URLs and report each one, or totals only; return the missions' ids."""
    watched = sys.stderr.isatty()
    total: int | None = len(urls)
    if watched and source is not None:
        total = None  # unknown for a pipe
        if source.seekable():
            total = len(urls) + sum(1 for _ in _lines(source))
            source.seek(0)
    if source is sys.stdin:
        note_terminal("one URL per line")
    named = ((f"URL {number}", url) for number, url in enumerate(urls, 1))
    remaining = chain(named, _lines(source) if source else ())
    looks, in_numbers = not as_json and sys.stdout.isatty(), False
    ids: list[str] = []
    with tqdm(total=total, unit=" missions", disable=not watched, file=sys.stderr) as bar:
        while some := list(islice(remaining, CHUNK)):
            in_numbers = in_numbers or (looks and len(some) > MANY)
            verdicts = batch.add([url for _, url in some])
            bar.update(len(some))
            with bar.external_write_mode():  # on separate lines, not after the bar
                for (place, _), verdict in zip(some, verdicts, strict=True):
                    if not isinstance(verdict, Ticket):
                        complain(f"{place}: {verdict}")
                        continue
                    ids.append(verdict.id)
                    if not in_numbers:
                        _tell(verdict, {"batch": batch.id}, as_json=as_json)
    if in_numbers:
        say(
            f"{counted(batch.accepted, 'mission')} enqueued, {batch.duplicates:,} enqueued before, {batch.refused.total():,} refused"
        )
    if not ids and not batch.refused:
        note("no URL found: nothing was enqueued")
    elif ids and not as_json:
        note(f"batch {batch.id}: check it with `mission status --batch {batch.id}`")
    return ids


def _lines(source: TextIO) -> Iterator[tuple[str, str]]:
    """The URLs of a file, each with its line number."""
    name = getattr(source, "name", _STDIN)
    where = "line " if name == _STDIN else f"{name}:"
    for number, line in enumerate(source, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"{where}{number}", text


def _tell(ticket: Ticket, more: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        emit_json(ticket.as_dict() | more)
    else:
        kept = "" if ticket.priority == Priority.NORMAL else f", {ticket.priority} priority"
        say(f"{ticket.id}  {ticket.state}{f'  (enqueued before{kept})' if ticket.duplicate else ''}")
