"""`mission enqueue`: missions from URLs or a file of them, and how they end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TextIO

import click
from tqdm import tqdm

from mission.admission import DEFAULT_SUBMITTER
from mission.cli.advice import advise
from mission.cli.console import DurationType, complain, emit_json, json_option, note, note_terminal, say
from mission.cli.help import Command
from mission.client import MissionClient
from mission.errors import DecoderError
from mission.model import State, Ticket
from mission.units import format_duration


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "url_key", "max_age", "queue_limit", "quota"))
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option(
    "--from-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    metavar="FILE|-",
    help="A URL a line; '-' reads standard input.  [default: the URLs named]",
)
@click.option("--submitter", default=DEFAULT_SUBMITTER, show_default=True, help="Who asks; quotas and keys go by it.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same key and URL give the same mission; of many URLs, each of them: then it is safe to enqueue all again.  [default: none]",
)
@click.option(
    "--expires", type=DurationType(), help="Give up after so long, like 90s, 5m or 24h.  [default: DECODER_MAX_AGE]"
)
@click.option("--wait", is_flag=True, help="Wait until all are finished; exit code 1 if one did not succeed.")
@click.option("--timeout", type=DurationType(), default="10m", show_default=True, help="How long --wait waits.")
@json_option
def enqueue(
    urls: tuple[str, ...],
    from_file: TextIO | None,
    submitter: str,
    idempotency_key: str | None,
    expires: float | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Enqueue missions: URLs from the command line or from a file.

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
    client = MissionClient.from_env()
    verdicts: Iterator[Ticket | DecoderError]
    if many:
        verdicts = client.enqueue_many(
            _lines(urls, from_file), submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires
        )
    else:
        ticket = client.enqueue(urls[0], submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires)
        verdicts = iter([ticket])
    try:
        tickets, refused = _report(verdicts, as_json=as_json, progress=many)
        if not tickets and not refused:
            note("there was no URL to read: nothing is enqueued")
        missed = _wait(client, tickets, timeout, as_json=as_json) if wait else 0
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the missions printed so far go on; `mission status ID` follows them") from None
    if refused or missed:
        raise SystemExit(1)


def _lines(urls: tuple[str, ...], source: TextIO | None) -> Iterator[str]:
    yield from urls
    if source is sys.stdin:
        note_terminal("a URL a line")
    yield from filter(None, (line.rstrip("\r\n") for line in source or ()))


def _report(verdicts: Iterator[Ticket | DecoderError], *, as_json: bool, progress: bool) -> tuple[list[Ticket], int]:
    tickets: list[Ticket] = []
    refused = 0
    bar = tqdm(verdicts, unit=" missions", disable=not (progress and sys.stderr.isatty()), file=sys.stderr)
    for number, verdict in enumerate(bar, 1):
        with bar.external_write_mode():  # a line of its own, not the rest of the bar's
            if not isinstance(verdict, Ticket):
                refused += 1
                complain(f"URL {number}: {verdict}")
                continue
            tickets.append(verdict)
            if as_json:
                emit_json(verdict.as_dict())
            else:
                say(f"{verdict.id}  {verdict.state}{'  (was there before)' if verdict.duplicate else ''}")
    return tickets, refused


def _wait(client: MissionClient, tickets: list[Ticket], timeout: float, *, as_json: bool) -> int:
    """Follow missions to their end, and say what to do about those that did not succeed; how many these are."""
    give_up = time.monotonic() + timeout
    missed = []
    bar = tqdm(tickets, unit=" finished", disable=not sys.stderr.isatty(), file=sys.stderr)
    for ticket in bar:
        status = client.wait(ticket.id, max(0.0, give_up - time.monotonic()))
        if status.state is not State.SUCCEEDED:
            missed.append(status)
        with bar.external_write_mode():
            if as_json:
                emit_json(status.as_dict())
            else:
                found = f"{status.secrets} secrets" if status.secrets is not None else status.reason or ""
                cut = f"  (not all was searched: {', '.join(status.cut)})" if status.cut else ""
                say(f"{status.id}  {status.state}  {found}{cut}".rstrip())
    advise(status.reason for status in missed if status.finished)
    if unfinished := sum(not status.finished for status in missed):
        note(
            f"{unfinished} of {len(tickets)} not finished after {format_duration(timeout)}, and they go on: "
            "`mission status ID` follows them; if none moves, is a worker running?"
        )
    return len(missed)
