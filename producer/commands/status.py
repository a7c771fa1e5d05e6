"""`mission status`: show the status of missions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from mission.cli.advice import advise
from mission.cli.console import complain, emit_json, emit_records, emit_table, json_option
from mission.cli.help import Command
from mission.client import MissionClient
from mission.errors import DecoderError
from mission.model import MissionStatus, Priority

_FIELDS = (
    "id",
    "state",
    "priority",
    "attempts",
    "secrets",
    "reason",
    "put_off",
    "next_try_at",
    "submitted_at",
    "finished_at",
    "cut",
)
# Columns that are shown only if a mission has a value for them.
_RARE = ("priority", "put_off", "next_try_at", "cut")


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--batch", "batch_id", metavar="BATCH", help="Count a batch's missions.  [default: the missions named]")
@json_option
def status(ids: tuple[str, ...], batch_id: str | None, as_json: bool) -> None:
    """Show the status of missions, and why one failed.

    Shows state, priority if it is not normal, attempts, number of secrets and times. Also shows why a mission ended or why its last
    attempt failed, why it is delayed, the earliest time of the next attempt, and what cut the search of a document short. For a batch,
    counts the missions by state and reason. Any login works; no URL key is needed.

    \b
    Example:
      mission status 0f8fad5b-d9cb-469f-a165-70867728950e --json
    """
    if bool(ids) == (batch_id is not None):
        raise click.UsageError("name missions, or a batch of them: mission status ID, or mission status --batch BATCH")
    client = MissionClient.from_env()
    if batch_id is not None:
        _count(client, batch_id, as_json=as_json)
        return
    shown: list[MissionStatus] = []
    for mission_id in ids:
        try:
            shown.append(client.status(mission_id))
        except DecoderError as error:
            complain(error)
    told = [found.as_dict() if as_json else _in_a_table(found) for found in shown]
    fields = [name for name in _FIELDS if name not in _RARE or any(row[name] for row in told)]
    emit_records(told, as_json=as_json, fields=fields)
    if not as_json:
        advise(found.reason if found.finished else found.put_off for found in shown)
    if len(shown) < len(ids):
        raise SystemExit(1)


def _in_a_table(found: MissionStatus) -> dict[str, Any]:
    usual = found.priority == Priority.NORMAL
    return found.as_dict() | {"cut": ", ".join(found.cut), "priority": None if usual else found.priority}


def _count(client: MissionClient, batch_id: str, *, as_json: bool) -> None:
    statuses = client.statuses(client.missions_of(batch_id))
    found = Counter((status.state, status.reason or status.put_off or "") for status in statuses if status)
    if as_json:
        states = Counter[str]()
        for (state, _), count in found.items():
            states[state] += count
        emit_json({"batch": batch_id, "missions": found.total(), "states": dict(states)})
        return
    emit_table(("STATE", "REASON", "MISSIONS"), [(*key, f"{count:,}") for key, count in found.most_common()])
