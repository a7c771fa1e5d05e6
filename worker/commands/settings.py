"""`decoder settings`: every setting as it stands."""

from __future__ import annotations

import click

from mission.cli.console import emit_records, json_option, note
from mission.cli.help import Command
from worker.settings import WorkerSettings


@click.command(cls=Command)
@json_option
def settings(as_json: bool) -> None:
    """Print every setting as it stands.

    A line each: variable, value (secrets masked), whether it was set, what it takes. All DECODER_… variables are read.

    \b
    Example:
      DECODER_DEADLINE=20s decoder settings
    """
    rows = WorkerSettings.from_env().describe()
    for sentence in WorkerSettings.misspelt():
        note(sentence)
    emit_records(rows, as_json=as_json)
