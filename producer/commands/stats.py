"""`mission stats`: count the missions in each state."""

from __future__ import annotations

import click

from mission.cli.console import emit_records, json_option
from mission.cli.help import Command
from mission.client import MissionClient


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@json_option
def stats(as_json: bool) -> None:
    """Count the missions in each state.

    Also shows the age of the oldest unfinished mission, in seconds. Any login works; no URL key is needed.

    \b
    Example:
      mission stats --json
    """
    emit_records([MissionClient.from_env().stats().as_dict()], as_json=as_json)
