"""`decoder doctor`: checks whether the setup is fit for production, and repairs the ledger."""

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
@click.option("--repair", "repairs", is_flag=True, help="Repair overwritten Redis keys; recorded in the audit log.")
@why_option(says="Reason of a repair, recorded in the audit log.  [default: none, without --repair]", required=False)
@json_option
def doctor(repairs: bool, reason: str | None, as_json: bool) -> None:
    """Check Redis, keys and policy; or repair the ledger.

    Checks what this login may see. Prints a line for each check: `ok`; `warn` for a setting that production should change; `FAIL` for one that production must
    change. With a FAIL the exit code is 1. `skip` marks checks that the login of DECODER_REDIS_URL may not do or does not need:
    a producer is checked as a producer, a reader as a reader.

    --repair needs the operator's login, checks nothing else, and changes nothing if nothing is damaged. It moves keys of a wrong type
    and entries that no release writes aside for 7 days, and rebuilds the indexes of missions from their entries.

    \b
    Example:
      decoder doctor --json
      decoder doctor --repair --reason "the queue was overwritten"
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
        say(f"{mended.key}: was damaged ({mended.was}), repaired")
    say(
        f"{done.indexed} missions reindexed, {done.damaged} damaged ones moved aside, {done.gone} without an entry dropped"
    )
