"""The `mission` command: enqueue, follow, count."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TextIO

import click
from tqdm import tqdm

from mission.admission import DEFAULT_SUBMITTER
from mission.console import Commands, DurationType, emit_json, emit_table, json_option, version_option
from mission.errors import DecoderError
from mission.model import State, Ticket
from producer.client import MissionClient
from producer.commands.forget import forget
from producer.commands.reveal import reveal


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """Enqueue missions for the decoder, follow them, and read what they found.

    \b
    Where Redis is and how URLs are encrypted comes from the environment:
      DECODER_REDIS_URL=rediss://user:password@redis.example.com:6379/0
      DECODER_URL_KEY=/etc/decoder/url.key

    \b
    Example:
      mission enqueue https://docs.example.com/page --wait
    """


@main.command()
@click.argument("urls", nargs=-1, metavar="URL...")
@click.option(
    "--from-file",
    type=click.File("r", encoding="utf-8", errors="surrogateescape"),
    metavar="FILE|-",
    help="A URL a line; '-' reads standard input.",
)
@click.option("--submitter", default=DEFAULT_SUBMITTER, show_default=True, help="Who asks; quotas and keys go by it.")
@click.option("--idempotency-key", metavar="KEY", help="The same key and URL give the same mission.")
@click.option("--expires", type=DurationType(), metavar="1h", help="Give up after so long.  [default: DECODER_MAX_AGE]")
@click.option("--wait", is_flag=True, help="Wait until all are finished; exit code 1 if one did not succeed.")
@click.option(
    "--timeout", type=DurationType(), default="10m", show_default=True, metavar="10m", help="How long --wait waits."
)
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
      mission enqueue --from-file urls.txt --submitter nightly --json
    """
    if not urls and from_file is None:
        raise click.UsageError("name a URL, or a file of them: mission enqueue https://docs.example.com/page")
    many = from_file is not None or len(urls) > 1
    if idempotency_key is not None and many:
        raise click.UsageError("--idempotency-key goes with one URL")
    client = MissionClient.from_env()
    verdicts: Iterator[Ticket | DecoderError]
    if many:
        verdicts = client.enqueue_many(_lines(urls, from_file), submitter=submitter, expires_seconds=expires)
    else:
        ticket = client.enqueue(urls[0], submitter=submitter, idempotency_key=idempotency_key, expires_seconds=expires)
        verdicts = iter([ticket])
    tickets, refused = _report(verdicts, as_json=as_json, progress=many)
    unfinished = 0
    if wait:
        unfinished = _await(client, tickets, timeout, as_json=as_json)
    if refused or unfinished:
        raise SystemExit(1)


def _lines(urls: tuple[str, ...], source: TextIO | None) -> Iterator[str]:
    yield from urls
    for line in source or ():
        if url := line.rstrip("\r\n"):
            yield url


def _report(verdicts: Iterator[Ticket | DecoderError], *, as_json: bool, progress: bool) -> tuple[list[Ticket], int]:
    tickets: list[Ticket] = []
    refused = 0
    bar = tqdm(verdicts, unit=" missions", disable=not (progress and sys.stderr.isatty()), file=sys.stderr)
    for number, verdict in enumerate(bar, 1):
        with bar.external_write_mode():  # a line of its own, not the rest of the bar's
            if not isinstance(verdict, Ticket):
                refused += 1
                click.echo(f"error: URL {number}: {verdict}", err=True)
                continue
            tickets.append(verdict)
            if as_json:
                emit_json(verdict.as_dict())
            else:
                click.echo(f"{verdict.id}  {verdict.state}{'  (was there before)' if verdict.duplicate else ''}")
    return tickets, refused


def _await(client: MissionClient, tickets: list[Ticket], timeout: float, *, as_json: bool) -> int:
    """Follow missions to their end; how many did not succeed."""
    give_up = time.monotonic() + timeout
    missed = 0
    bar = tqdm(tickets, unit=" finished", disable=not sys.stderr.isatty(), file=sys.stderr)
    for ticket in bar:
        status = client.wait(ticket.id, max(0.0, give_up - time.monotonic()))
        missed += status.state is not State.SUCCEEDED
        with bar.external_write_mode():
            if as_json:
                emit_json(status.as_dict())
            else:
                found = f"{status.secrets} secrets" if status.secrets is not None else status.reason or ""
                click.echo(f"{status.id}  {status.state}  {found}".rstrip())
    return missed


@main.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def status(ids: tuple[str, ...], as_json: bool) -> None:
    """Show how missions stand.

    \b
    Example:
      mission status 0f8fad5b-d9cb-469f-a165-70867728950e --json
    """
    client = MissionClient.from_env()
    rows = []
    failed = False
    for mission_id in ids:
        try:
            found = client.status(mission_id)
        except DecoderError as error:
            failed = True
            click.echo(f"error: {error}", err=True)
            continue
        if as_json:
            emit_json(found.as_dict())
        rows.append(list(found.as_dict().values()))
    if rows and not as_json:
        emit_table(("ID", "STATE", "ATTEMPTS", "SECRETS", "REASON", "SUBMITTED", "FINISHED"), rows)
    if failed:
        raise SystemExit(1)


@main.command()
@json_option
def stats(as_json: bool) -> None:
    """Count the missions in each state.

    \b
    Example:
      mission stats --json
    """
    found = MissionClient.from_env().stats().as_dict()
    if as_json:
        emit_json(found)
    else:
        emit_table([name.upper() for name in found], [list(found.values())])


for command in (forget, reveal):
    main.add_command(command)

if __name__ == "__main__":
    main()
