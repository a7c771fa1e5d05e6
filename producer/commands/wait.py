"""`mission wait`: wait until missions are finished, and report how they end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection

import click
from tqdm import tqdm

from mission.cli.advice import advise
from mission.cli.console import DurationType, emit_json, emit_table, json_option, note, say
from mission.cli.help import Command
from mission.client import MissionClient
from mission.ids import check_mission_id
from mission.model import MissionStatus, State
from mission.units import counted, format_duration

# On a terminal, more missions than this are shown as totals.
MANY = 20


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--batch", "batch_id", metavar="BATCH", help="All missions of this batch.  [default: the missions named]")
@click.option("--timeout", type=DurationType(), default="10m", show_default=True, help="How long to wait.")
@json_option
def wait(ids: tuple[str, ...], batch_id: str | None, timeout: float, as_json: bool) -> None:
    """Wait until missions are finished, and report how each ended.

    Exit code 1 if a mission did not succeed, or if the time ran out.

    \b
    Example:
      mission wait 0f8fad5b-d9cb-469f-a165-70867728950e --timeout 5m
    """
    if bool(ids) == (batch_id is not None):
        raise click.UsageError("name missions, or a batch of them: mission wait ID, or mission wait --batch BATCH")
    client = MissionClient.from_env()
    named = [check_mission_id(text) for text in ids] or [*client.missions_of(str(batch_id))]
    try:
        missed = follow(client, named, timeout, as_json=as_json)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the missions go on") from None
    if missed:
        raise SystemExit(1)


def follow(client: MissionClient, ids: Collection[str], timeout: float, *, as_json: bool) -> int:
    """Report how each of these missions ends, with advice on those that did not succeed; return the number of these."""
    in_numbers = not as_json and len(ids) > MANY and sys.stdout.isatty()
    ends, missed = Counter[tuple[str, str]](), list[MissionStatus]()
    bar = tqdm(total=len(ids), unit=" finished", disable=not sys.stderr.isatty(), file=sys.stderr)
    with bar:
        for status in client.follow(ids, timeout):
            bar.update(status.finished)
            ends[status.state, status.reason or ""] += 1
            if status.state is not State.SUCCEEDED:
                missed.append(status)
            if not in_numbers:
                with bar.external_write_mode():
                    _tell(status, as_json=as_json)
    if in_numbers:
        emit_table(("STATE", "REASON", "MISSIONS"), [(*end, f"{count:,}") for end, count in ends.most_common()])
    advise(status.reason for status in missed if status.finished)
    if unfinished := sum(not status.finished for status in missed):
        note(
            f"the time ran out: {unfinished} of {len(ids)} not finished after {format_duration(timeout)}; "
            "they go on: check them with `mission status ID`; if none makes progress, check that a worker is running"
        )
    return len(missed)


def _tell(status: MissionStatus, *, as_json: bool) -> None:
    if as_json:
        emit_json(status.as_dict())
        return
    found = status.reason or status.put_off or ""
    if status.secrets is not None:
        found = counted(status.secrets, "secret")
    cut = f"  (only partly searched: {', '.join(status.cut)})" if status.cut else ""
    say(f"{status.id}  {status.state}  {found}{cut}".rstrip())
