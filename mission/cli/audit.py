"""`decoder audit`: look at the audit, and prove that nobody changed it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TextIO

import click

from mission.audit.chain import LOG_FIELD
from mission.audit.log import AuditLog
from mission.cli.console import emit_json, emit_records, emit_table, json_option, say
from mission.cli.help import Group
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import Key

CHAINS = {"people": Key.AUDIT, "keys": Key.AUDIT_KEYS}


@click.group(cls=Group)
def audit() -> None:
    """Show the audit, and verify it.

    \b
    Example:
      decoder audit verify
    """


@audit.command(reads=("redis_url", "redis_ca_file"))
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N entries.  [default: all]")
@click.option("--mission", metavar="ID", help="Only entries of this mission.  [default: of all]")
@click.option("--keys", is_flag=True, help="Instead of what people did: which keys workers used, and since when.")
@json_option
def show(last: int | None, mission: str | None, keys: bool, as_json: bool) -> None:
    """Print audit entries, the oldest first.

    \b
    Example:
      decoder audit show --last 20
    """
    entries = _open(Key.AUDIT_KEYS if keys else Key.AUDIT).entries(last=last, mission_id=mission)
    if as_json:
        emit_records((entry.as_dict() for entry in entries), as_json=True)
        return
    header = ("SEQ", "AT", "REDIS USER", "OS USER", "ACTION", "MISSION", "KEY", "WHY", "OUTCOME")
    rows = []
    for entry in entries:
        who = f"{entry.actor.os_user}@{entry.actor.host}"
        what = (entry.action, entry.mission_id, entry.key_id, entry.why, entry.outcome)
        rows.append((entry.seq, entry.at, entry.actor.redis_user, who, *what))
    emit_table(header, rows)


@audit.command(reads=("redis_url", "redis_ca_file"))
@click.option(
    "--log",
    type=click.File("r", errors="replace"),
    metavar="FILE|-",
    help="Log lines to compare with; '-' reads standard input.  [default: none]",
)
@json_option
def verify(log: TextIO | None, as_json: bool) -> None:
    """Look for entries that were removed, changed, inserted or reordered; exit code 1 if there are any.

    Both chains are looked at: what people did, and which keys workers used.
    That a whole chain was rewritten or emptied shows only against a log that holds its lines.

    \b
    Example:
      decoder audit verify --log audit.log
    """
    # Read once for both; what does not matter is not kept, but keeps its number.
    lines = [line if LOG_FIELD in line else "" for line in log or ()]
    findings = [(chain, finding) for chain in CHAINS for finding in _open(CHAINS[chain]).verify(lines)]
    for chain, finding in findings:
        if as_json:
            emit_json({"chain": chain} | asdict(finding))
        else:
            say(f"{finding.kind}: {finding.detail}{' (chain of keys)' if chain == 'keys' else ''}")
    if findings:
        raise SystemExit(1)
    if not as_json:
        say("the audit is whole" if log else "the audit is whole in itself (no log was given to compare with)")


def _open(stream: Key) -> AuditLog:
    settings = Settings.from_env()
    return AuditLog(connect(settings), settings.audit_ttl, stream=stream)
