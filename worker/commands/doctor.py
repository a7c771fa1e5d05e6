"""`decoder doctor`: is everything as production needs it?"""

from __future__ import annotations

from dataclasses import asdict

import click

from mission.cli.console import emit_json, json_option, say
from mission.cli.help import Command
from worker.doctor import Level, examine
from worker.settings import WorkerSettings


@click.command(
    cls=Command,
    settings=WorkerSettings,
    reads=("redis_url", "redis_ca_file", "url_key", "recipient", "recipients", "allowed_hosts"),
)
@json_option
def doctor(as_json: bool) -> None:
    """Check Redis, keys and policy as a worker finds them here.

    It prints a line for each check: `ok`; `warn` for what production should change; `FAIL` for what production must not go
    without. With a FAIL the exit code is 1.

    \b
    Example:
      decoder doctor --json
    """
    failed = False
    for finding in examine(WorkerSettings.from_env()):
        failed = failed or finding.level is Level.FAIL
        if as_json:
            emit_json(asdict(finding))
        else:
            mark = "FAIL" if finding.level is Level.FAIL else finding.level.value
            say(f"{mark:<4}  {finding.check:<13}  {finding.detail}")
    if failed:
        raise SystemExit(1)
