"""`mission forget`: delete a mission and its results, recorded in the audit log."""

from __future__ import annotations

import click

from mission.audit.log import AuditLog
from mission.cli.console import emit_json, json_option, say, why_option
from mission.cli.help import Command
from mission.operate import erasure
from mission.settings import Settings
from mission.store.connection import connect
from mission.units import counted


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.argument("mission_id", metavar="ID")
@why_option()
@json_option
def forget(mission_id: str, reason: str, as_json: bool) -> None:
    """Delete a mission and its results, whatever its state.

    This deletes its ledger entry and its results. The audit keeps a record of the mission and of this deletion. If a worker
    is running the mission, its findings are dropped.

    \b
    Example:
      mission forget 0f8fad5b-d9cb-469f-a165-70867728950e --reason "request 815"
    """
    settings = Settings.from_env()
    client = connect(settings)
    results = erasure.forget(client, settings, AuditLog(client), mission_id, why=reason)
    if as_json:
        emit_json({"id": mission_id, "forgotten": True, "results": results})
    else:
        say(f"{mission_id}  deleted, with {counted(results, 'result')}")
