"""`decoder doctor`: is everything as production needs it?"""

from __future__ import annotations

from dataclasses import asdict

import click

from mission.audit.log import AuditLog
from mission.cli.console import emit_json, json_option, say, why_option
from mission.cli.help import Command
from mission.operate.repair import repair
from mission.store.connection import connect
from worker.doctor import Level, examine
from worker.settings import WorkerSettings


@click.command(
    cls=Command,
    settings=WorkerSettings,
    reads=("redis_url", "redis_ca_file", "url_key", "recipient", "recipients", "allowed_hosts", "credentials"),
)
@click.option(
    "--repair", "repairs", is_flag=True, help="Put right what somebody wrote over in Redis; on the audit's record."
)
@why_option(says="Reason of a repair, recorded in the audit log.  [default: none, without --repair]", required=False)
@json_option
def doctor(repairs: bool, reason: str | None, as_json: bool) -> None:
    """Check Redis, keys and policy as a login finds them here; or repair the ledger.

    It prints a line for each check: `ok`; `warn` for what production should change; `FAIL` for what production must not go
    without. With a FAIL the exit code is 1. `skip` is what the login of DECODER_REDIS_URL may not see, or does not need: a
    producer is judged as a producer, a reader as a reader.

    --repair takes the operator's login, checks nothing else, and does no harm where nothing is damaged. Keys of another type and
    entries that no release writes are set aside for 7 days, and the indexes of missions are built anew from their entries.

    \b
    Example:
      decoder doctor --json
      decoder doctor --repair --reason "somebody wrote over the queue"
    """
    if repairs != (reason is not None):
        raise click.UsageError("--repair and --reason go together")
    if reason is not None:
        _repair(reason, as_json)
        return
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


def _repair(reason: str, as_json: bool) -> None:
    settings = WorkerSettings.from_env()
    client = connect(settings)
    audit = AuditLog(client)
    done = repair(client, settings, audit, why=reason, lease_seconds=settings.lease_seconds)
    if as_json:
        emit_json(done.as_dict())
        return
    for mended in done.keys:
        say(f"{mended.key}: was damaged ({mended.was}) and was put right")
    say(
        f"{done.indexed} missions indexed anew, {done.damaged} damaged ones set aside, {done.gone} that have no entry dropped"
    )
