"""`decoder settings`: prints every setting with its current value."""

from __future__ import annotations

import click

from mission.cli.console import emit_records, json_option, note
from mission.cli.help import Command
from worker.settings import WorkerSettings


@click.command(cls=Command)
@json_option
def settings(as_json: bool) -> None:
    """Print every setting with its current value.

    Each line has the variable, its value (secrets masked), whether it is set, and the values it accepts. Reads all DECODER_… variables.

    \b
    Example:
      DECODER_DEADLINE=20s decoder settings
    """
    rows = WorkerSettings.from_env().describe()
    for sentence in WorkerSettings.misspelt():
        note(sentence)
    emit_records(rows, as_json=as_json)
