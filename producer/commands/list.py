"""`mission list`: list missions by state, submitter, age or batch."""

from __future__ import annotations

import click

from mission.cli.console import DurationType, emit_records, json_option, note
from mission.cli.help import Command
from mission.ids import check_mission_id
from mission.model import Priority, State
from mission.operate.listing import UNFINISHED, Selection, find_missions
from mission.settings import Settings
from mission.store.connection import connect

_FIELDS = (
    *("id", "state", "priority", "reason", "put_off", "attempts", "submitter"),
    *("submitted_at", "next_try_at", "finished_at"),
)


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    metavar="STATE",
    help="In this state; repeatable.  [default: unfinished missions; in a batch, all]",
)
@click.option("--submitter", metavar="NAME", help="From this submitter.  [default: any]")
@click.option(
    "--older-than",
    type=DurationType(),
    help="Enqueued at least this long ago, like 90s, 5m or 24h.  [default: any age]",
)
@click.option(
    "--newer-than", type=DurationType(), help="Enqueued at most this long ago, like 90s, 5m or 24h.  [default: any age]"
)
@click.option(
    "--batch", "batch_id", metavar="BATCH", help="In this batch; `mission enqueue` prints its id.  [default: any]"
)
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="Show at most this many, the newest."
)
@json_option
def list(  # noqa: A001 (has the command's name)
    states: tuple[str, ...],
    submitter: str | None,
    older_than: float | None,
    newer_than: float | None,
    batch_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List missions, the newest first.

    Any login works with --batch; otherwise use the reader's or the operator's. Succeeded, failed and cancelled missions are not indexed:
    finding them takes seconds per million missions.

    \b
    Example:
      mission list --state retrying --submitter nightly --older-than 1h
    """
    settings = Settings.from_env()
    chosen = frozenset(map(State, states)) or (frozenset(State) if batch_id else UNFINISHED)
    selection = Selection(chosen, submitter, older_than or 0.0, newer_than)
    batch_id = check_mission_id(batch_id) if batch_id else None
    found = find_missions(connect(settings), settings, selection, batch_id=batch_id, limit=limit)
    rows = [one.as_dict() for one in found]
    if not as_json:
        rows = [row | {"priority": None if row["priority"] == Priority.NORMAL else row["priority"]} for row in rows]
    fields = [name for name in _FIELDS if name in ("id", "state", "submitter") or any(row[name] for row in rows)]
    emit_records(rows, as_json=as_json, fields=fields, none="no such missions")
    if len(rows) == limit and not as_json:
        note(f"shows the newest {limit}; use --limit for more")
