"""`mission status`: how missions stand."""

from __future__ import annotations

import click

from mission.cli.advice import advise
from mission.cli.console import complain, emit_records, json_option
from mission.cli.help import Command
from mission.client import MissionClient
from mission.errors import DecoderError
from mission.model import MissionStatus

_FIELDS = ("id", "state", "attempts", "secrets", "reason", "submitted_at", "finished_at", "cut")


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "url_key"))
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def status(ids: tuple[str, ...], as_json: bool) -> None:
    """Show how missions stand, and why one failed.

    That is state, attempts, how many secrets were found, the reason, and when; and what cut the search of a document short, if anything did.

    \b
    Example:
      mission status 0f8fad5b-d9cb-469f-a165-70867728950e --json
    """
    client = MissionClient.from_env()
    shown: list[MissionStatus] = []
    for mission_id in ids:
        try:
            shown.append(client.status(mission_id))
        except DecoderError as error:
            complain(error)
    fields = [name for name in _FIELDS if name != "cut" or any(found.cut for found in shown)]
    told = (found.as_dict() | ({} if as_json else {"cut": ", ".join(found.cut)}) for found in shown)
    emit_records(told, as_json=as_json, fields=fields)
    if not as_json:
        advise(found.reason for found in shown if found.finished)
    if len(shown) < len(ids):
        raise SystemExit(1)
