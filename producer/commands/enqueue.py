"""`mission enqueue`: missions from URLs or a file of them, and how they end."""

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

_STDIN = "<stdin>"  # its name in Python


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "url_key", "max_age", "queue_limit", "quota"))
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option(
    "--from-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    metavar="FILE|-",
    help="A URL a line; empty ones and those that begin with # are passed over; '-' reads standard input.  [default: the URLs named]",
)
@click.option("--submitter", default=DEFAULT_SUBMITTER, show_default=True, help="Who asks; quotas and keys go by it.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same key and URL are one mission: so it is safe to enqueue all of them again.  [default: none]",
)
@click.option("--exclusive", is_flag=True, help="The key stands for one URL alone: another one is refused.")
@click.option(
    "--expires", type=DurationType(), help="Give up after so long, like 90s, 5m or 24h.  [default: DECODER_MAX_AGE]"
)
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="How urgent they are: while all wait, 8 high ones are worked to 4 normal and 1 low.",
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

    More than one are a batch, whose id `mission status --batch`, `wait --batch` and `list --batch` take. On a terminal many of them
    are told in numbers.

    \b
    Example:
      mission enqueue https://docs.example.com/a https://docs.example.com/b
      mission enqueue --from-file urls.txt --submitter nightly --idempotency-key 2026-11-24 --json
    """
    if not urls and from_file is None:
        raise click.UsageError("name a URL, or a file of them: mission enqueue https://docs.example.com/page")
    if "-" in urls:
        raise click.UsageError("- is no URL: --from-file - reads them from standard input")
    many = from_file is not None or len(urls) > 1
    if exclusive and (many or idempotency_key is None):
        raise click.UsageError("--exclusive is for one URL with an --idempotency-key")
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
        raise KeyboardInterrupt(f"the missions enqueued so far go on; {follows} follows them") from None
    if refused or missed:
        raise SystemExit(1)


def _enqueue_many(batch: Batch, urls: tuple[str, ...], source: TextIO | None, *, as_json: bool) -> list[str]:
    """Enqueue and tell of each, or of all in numbers; the missions' ids."""
    watched = sys.stderr.isatty()
    total: int | None = len(urls)
    if watched and source is not None:
        total = None  # of what comes through a pipe nobody knows it
        if source.seekable():
            total = len(urls) + sum(1 for _ in _lines(source))
            source.seek(0)
    if source is sys.stdin:
        note_terminal("a URL a line")
    named = ((f"URL {number}", url) for number, url in enumerate(urls, 1))
    remaining = chain(named, _lines(source) if source else ())
    looks, in_numbers = not as_json and sys.stdout.isatty(), False
    ids: list[str] = []
    with tqdm(total=total, unit=" missions", disable=not watched, file=sys.stderr) as bar:
        while some := list(islice(remaining, CHUNK)):
            in_numbers = in_numbers or (looks and len(some) > MANY)
            verdicts = batch.add([url for _, url in some])
            bar.update(len(some))
            with bar.external_write_mode():  # lines of their own, not the rest of the bar's
                for (place, _), verdict in zip(some, verdicts, strict=True):
                    if not isinstance(verdict, Ticket):
                        complain(f"{place}: {verdict}")
                        continue
                    ids.append(verdict.id)
                    if not in_numbers:
                        _tell(verdict, {"batch": batch.id}, as_json=as_json)
    if in_numbers:
        say(
            f"{counted(batch.accepted, 'mission')} enqueued, {batch.duplicates:,} there before, {batch.refused.total():,} refused"
        )
    if not ids and not batch.refused:
        note("there was no URL to read: nothing is enqueued")
    elif ids and not as_json:
        note(f"batch {batch.id}: `mission status --batch {batch.id}` follows it")
    return ids


def _lines(source: TextIO) -> Iterator[tuple[str, str]]:
    """The URLs of a file, each with its place."""
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
        kept = "" if ticket.priority == Priority.NORMAL else f", of {ticket.priority} priority"
        say(f"{ticket.id}  {ticket.state}{f'  (was there before{kept})' if ticket.duplicate else ''}")
