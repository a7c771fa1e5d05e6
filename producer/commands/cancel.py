"""`mission cancel`: end waiting missions, recorded in the audit log."""

from __future__ import annotations

import click

from mission.audit.log import AuditLog
from mission.cli.console import complain, emit_json, json_option, say, why_option
from mission.cli.help import Command
from mission.errors import UnknownMission
from mission.ids import check_mission_id
from mission.model import State
from mission.operate import cancellation
from mission.settings import Settings
from mission.store.connection import connect


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@why_option()
@json_option
def cancel(ids: tuple[str, ...], reason: str, as_json: bool) -> None:
    """End missions that are queued or retrying.

    Needs the operator's login. The audit log records it. Running missions go on. Exit code 1 if a mission is not cancelled.

    \b
    Example:
      mission cancel 0f8fad5b-d9cb-469f-a165-70867728950e --reason "the list was last month's"
    """
    settings = Settings.from_env()
    client = connect(settings)
    audit = AuditLog(client)
    missed = 0
    for mission_id in [check_mission_id(text) for text in ids]:
        try:
            state = cancellation.cancel(client, settings, audit, mission_id, why=reason)
        except UnknownMission as error:
            state = "unknown"
            complain(error)
        else:
            if state != State.CANCELLED:
                complain(f"{mission_id} is {state}: only a mission that is queued or retrying can be cancelled")
        missed += state != State.CANCELLED
        if as_json:
            emit_json({"id": mission_id, "state": state, "cancelled": state == State.CANCELLED})
        elif state == State.CANCELLED:
            say(f"{mission_id}  {state}")
    if missed:
        raise SystemExit(1)
