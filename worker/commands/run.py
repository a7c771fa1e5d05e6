"""`decoder run`: fetches and searches URLs without any other installation."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import click
import redis

from mission.audit.log import AuditLog
from mission.cli.advice import advise
from mission.cli.console import DurationType, emit_json, emit_table, json_option, note, say
from mission.cli.help import Command
from mission.cli.secrets import emit_secrets
from mission.client import MissionClient
from mission.errors import UnknownMission
from mission.model import Reason, State, Ticket
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.store.connection import connect
from mission.units import format_duration
from worker.local.embedded import EmbeddedRedis
from worker.local.progress import HEADER, LiveTable, Row
from worker.local.sample_site import Sample, SampleSite
from worker.local.stack import Child, access, ending_on_signals, running_worker, stack_settings, temporary_folder
from worker.settings import WorkerSettings

SUBMITTER = "decoder-run"
WORKER_GRACE = 2.0
_POLL_SECONDS = 0.1


@click.command(
    cls=Command,
    settings=WorkerSettings,
    reads=(
        "allowed_hosts",
        "allowed_schemes",
        "allowed_networks",
        "credentials",
        "egress_proxy",
        "deadline",
        "max_attempts",
        "max_bytes",
        "detectors",
        "markers",
        "rules",
    ),
)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option("--show", is_flag=True, help="Print the secrets' values; they are masked otherwise.")
@click.option(
    "--timeout",
    type=DurationType(),
    default="2m",
    show_default=True,
    help="How long to wait for all missions, like 90s or 5m.",
)
@json_option
def run(urls: tuple[str, ...], show: bool, timeout: float, as_json: bool) -> None:
    """Fetch URLs and print the secrets in them.

    Starts its own Valkey and worker, and, without a URL, a small sample site. URLs given here are allowed
    for this run.
    Exits with 0 if every mission ended as intended, else with 1.

    \b
    Example:
      decoder run
      decoder run --show https://docs.example.com/page
    """
    with ending_on_signals(), ExitStack() as pieces:
        samples = [Sample(url) for url in urls] or pieces.enter_context(SampleSite()).samples()
        rows = [Row(sample) for sample in samples]
        # Without URLs from the user, the last sample stays off the allowlist.
        allowed = urls or [sample.url for sample in samples if sample.reason is not Reason.HOST_NOT_ALLOWED]
        values = access(allowed)
        if not urls:  # the sample site is on this machine's loopback, which no proxy reaches
            values |= {"egress_proxy": "", "egress_resolve": "worker"}
        _work(pieces, rows, values, timeout)
        _report(rows, show=show, as_json=as_json, own=bool(urls))
        _advise(rows, timeout)
    sys.exit(0 if all(row.as_intended for row in rows) else 1)


def _work(pieces: ExitStack, rows: list[Row], allowed: dict[str, str], seconds: float) -> None:
    folder = pieces.enter_context(temporary_folder())
    server = pieces.enter_context(EmbeddedRedis(folder / "valkey"))
    # Generated for this run; the identity never leaves this process. The worker gets the public half.
    identity, url_key = Identity.generate(), generate_url_key()
    values = allowed | {
        "redis_url": server.url,
        "url_key": url_key,
        "recipient": identity.recipient.text,
        "metrics_host": "127.0.0.1",
        "metrics_port": "0",
    }
    settings = stack_settings(values)
    # Missions still in flight at the end of the run are lost with the ledger.
    worker_values = values | {"redis_url": server.login_url("worker")}
    worker = pieces.enter_context(running_worker(folder, worker_values, grace=WORKER_GRACE))
    client = MissionClient(settings)
    verdicts = client.enqueue_many([row.sample.url for row in rows], submitter=SUBMITTER)
    for row, verdict in zip(rows, verdicts, strict=True):
        if isinstance(verdict, Ticket):
            row.id, row.state = verdict.id, verdict.state
        else:
            row.reason = verdict.reason
    _follow(client, worker, rows, seconds)
    _reveal(pieces.enter_context(connect(settings)), identity, rows)


def _follow(client: MissionClient, worker: Child, rows: list[Row], seconds: float) -> None:
    """Wait until all missions have ended or the time is over; report the news, on a terminal as a live table."""
    until = time.monotonic() + seconds
    waiting = [row for row in rows if row.id]
    with LiveTable(rows) as table:
        while waiting and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            worker.check()
            for row, status in zip(waiting, client.statuses(str(row.id) for row in waiting), strict=True):
                if status is None:
                    raise UnknownMission(str(row.id))
                if row.update(status) and table.disable:
                    say(f"{row.state_text:<9}  {row.reason or '':<17}  {row.sample.url}".rstrip(), err=True)
            waiting = [row for row in waiting if not row.finished]
            table.show()


def _reveal(client: redis.Redis, identity: Identity, rows: list[Row]) -> None:
    # The ledger and its audit end with the run, so no one reads this log line.
    audit = AuditLog(client, emit=lambda _line: None)
    reader = ResultReader(client, [identity], audit)
    for row in rows:
        if row.id and row.state is State.SUCCEEDED:
            row.secrets = reader.reveal(row.id, reason="decoder run")


def _report(rows: list[Row], *, show: bool, as_json: bool, own: bool) -> None:
    if as_json:
        for row in rows:
            emit_json(row.as_dict(show=show))
        return
    emit_table(HEADER, [row.cells for row in rows])
    if found := [(row.sample.url, secret) for row in rows for secret in row.secrets]:
        say("")
    emit_secrets(found, show=show)
    say("", *_summary(rows, own=own, show=show))


def _advise(rows: list[Row], seconds: float) -> None:
    """Print notes on stderr about missions that did not end as intended, or were not searched to the end."""
    missed = [row for row in rows if not row.as_intended]
    advise(row.reason for row in missed)
    for row in rows:
        if not row.secrets.complete:
            note(f"not searched to the end ({', '.join(sorted(row.secrets.cut))}): {row.sample.url}")
    if unfinished := sum(row.state is not None and not row.finished for row in missed):
        note(f"{unfinished} not finished after {format_duration(seconds)}: --timeout waits longer")


def _summary(rows: list[Row], *, own: bool, show: bool) -> Iterator[str]:
    good = sum(row.as_intended for row in rows)
    masked = "" if show else " Values are masked: `--show` prints them (make run ARGS=--show)."
    yield f"{good} of {len(rows)} {'succeeded' if own else 'ended as intended'}.{masked}"
    if not own:
        yield "Next: your own page with `decoder run URL` (make run URLS=…), or"
        yield "`decoder up` (make up), which keeps Valkey, two workers and Flower running for use from another shell."
