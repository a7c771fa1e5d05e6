"""`mission status`: how missions stand."""

from __future__ import annotations

import click

from mission.cli.advice import advise
from mission.cli.console import complain, emit_records, json_option
from mission.cli.help import Command
from mission.client import MissionClient
from mission.errors import DecoderError
from mission.model import MissionStatus


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "url_key"))
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def status(ids: tuple[str, ...], as_json: bool) -> None:
    """Show how missions stand, and why one failed.

    That is state, attempts, how many secrets were found, the reason, and when.

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
    emit_records((found.as_dict() for found in shown), as_json=as_json)
    if not as_json:
        advise(found.reason for found in shown if found.finished)
    if len(shown) < len(ids):
        raise SystemExit(1)
