"""`decoder audit`: show the audit, verify that nobody changed it, and remove expired entries."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TextIO

import click

from mission.audit.chain import Finding
from mission.audit.entry import LOG_FIELD, AuditEntry
from mission.audit.log import AuditLog
from mission.cli.console import InstantType, emit_json, emit_records, emit_table, json_option, note, say, why_option
from mission.cli.help import Group
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import Key
from mission.units import format_duration

CHAINS = {"people": Key.AUDIT, "keys": Key.AUDIT_KEYS}
# What `verify` cannot check without a log.
_UNKNOWN = "no log given: only a log shows whether a chain was emptied or rewritten, or lost its newest entries"


@click.group(cls=Group)
def audit() -> None:
    """Show the audit, verify it, and remove expired entries.

    \b
    Example:
      decoder audit verify
    """


@audit.command(reads=("redis_url", "redis_ca_file"))
@click.option(
    "--since",
    type=InstantType(),
    help="Entries since this time: how long ago, like 2h, or an RFC 3339 time.  [default: all]",
)
@click.option(
    "--until",
    type=InstantType(),
    help="Entries before this time: how long ago, like 1h, or an RFC 3339 time.  [default: now]",
)
@click.option("--user", metavar="NAME", help="Only this Redis user or operating system user.  [default: all]")
@click.option("--action", metavar="WORD", help="Only this action, like reveal or forget.  [default: any]")
@click.option("--mission", metavar="ID", help="Only entries of this mission.  [default: all]")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="Show only the newest N entries; 0: all.",
)
@click.option("--keys", is_flag=True, help="Show which keys workers used and since when, instead of what people did.")
@json_option
def show(
    since: datetime | None,
    until: datetime | None,
    user: str | None,
    action: str | None,
    mission: str | None,
    limit: int,
    keys: bool,
    as_json: bool,
) -> None:
    """Print audit entries, the newest first.

    An entry's time comes from the clock of the machine that wrote it. Entries with an invalid time are always printed.

    \b
    Example:
      decoder audit show --since 2h --user reader
      decoder audit show --since 2026-11-28T00:00:00Z --until 2026-11-29T00:00:00Z --action reveal --limit 0 --json
    """

    def wanted(entry: AuditEntry) -> bool:
        by = (entry.actor.redis_user, entry.actor.os_user, _person(entry))
        early = since and entry.time and entry.time < since
        late = until and entry.time and entry.time >= until
        return not (early or late) and (not user or user in by) and action in (None, entry.action)

    audit = _open(Key.AUDIT_KEYS if keys else Key.AUDIT)
    entries = audit.entries(last=limit + 1 if limit else None, mission_id=mission, wanted=wanted)[::-1]
    if limit and len(entries) > limit:
        note("there are older entries; --limit N prints more, --limit 0 all")
        entries = entries[:limit]
    if as_json:
        emit_records((entry.as_dict() for entry in entries), as_json=True)
        return
    header = ("SEQ", "AT", "REDIS USER", "OS USER", "ACTION", "MISSION", "KEY", "WHY", "OUTCOME")
    rows = []
    for entry in entries:
        what = (entry.action, entry.mission_id, entry.key_id, entry.why, entry.outcome)
        rows.append((entry.seq, entry.at, entry.actor.redis_user, _person(entry), *what))
    emit_table(header, rows)


@audit.command(reads=("redis_url", "redis_ca_file"))
@click.option(
    "--log",
    type=click.File("r", errors="replace"),
    metavar="FILE|-",
    help="File of log lines to compare with; '-' reads standard input.  [default: none]",
)
@json_option
def verify(log: TextIO | None, as_json: bool) -> None:
    """Find entries that were removed, changed or inserted.

    Exit code 1 if there are any, or if entries are out of order. Checks both chains: what people did, and which keys workers used. Mended findings are printed but are not a failure.
    Only a comparison with a log shows that a whole chain was rewritten or emptied, or that its newest entries were
    removed.

    \b
    Example:
      decoder audit verify --log audit.log
    """
    # Read once for both chains. Irrelevant lines become empty, so that line numbers stay right.
    lines = [line if LOG_FIELD in line else "" for line in log or ()]
    findings = [(chain, finding) for chain in CHAINS for finding in _open(CHAINS[chain]).verify(lines)]
    for chain, finding in findings:
        _tell(chain, finding, as_json)
    whole = all(finding.known for _, finding in findings)
    if whole and not as_json:
        say("the audit is intact" if log else "the audit is consistent in itself")
    if not log:
        _tell(None, Finding("not_checked", None, _UNKNOWN), as_json)
    if not whole:
        raise SystemExit(1)


@audit.command(reads=("redis_url", "redis_ca_file", "audit_ttl"))
def trim() -> None:
    """Remove entries older than DECODER_AUDIT_TTL.

    Needs the auditor's login. An entry of action `trim` records how many entries were removed and which was the last one,
    so that `verify` detects any other removal.

    \b
    Example:
      decoder audit trim
    """
    settings = Settings.from_env()
    for chain, key in CHAINS.items():
        age = format_duration(settings.audit_ttl)
        count = AuditLog(connect(settings), chain=key).trim(settings.audit_ttl, why=f"older than {age}")
        say(f"removed {count} from the chain of {chain}: older than {age}")


@audit.command(reads=("redis_url", "redis_ca_file"))
@why_option()
@json_option
def mend(reason: str, as_json: bool) -> None:
    """Record that the findings of `verify` are known. Check each finding first. The auditor's login can mend both chains.

    Nothing is removed or hidden: `verify` still prints each finding, with who mended it, when and why, but no longer counts
    it as a failure. Findings that only a log shows cannot be mended.

    \b
    Example:
      decoder audit mend --reason 'incident 4711: the reader login was stolen'
    """
    for chain, key in CHAINS.items():
        for finding in _open(key).mend(why=reason):
            _tell(chain, finding, as_json)  # as found, before the mend


def _person(entry: AuditEntry) -> str:
    return f"{entry.actor.os_user}@{entry.actor.host}"


def _tell(chain: str | None, finding: Finding, as_json: bool) -> None:
    if as_json:
        emit_json({"chain": chain} | asdict(finding))
        return
    known = f"; mended on {finding.known}" if finding.known else ""
    where = " (chain of keys)" if chain == "keys" else ""
    say(f"{'known: ' if known else ''}{finding.kind}: {finding.detail}{where}{known}")


def _open(chain: Key) -> AuditLog:
    return AuditLog(connect(Settings.from_env()), chain=chain)
