"""`decoder audit`: look at the audit, prove that nobody changed it, and cut what is too old, on record."""

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
# What verifying without a log cannot know.
_UNKNOWN = "no log was given, and it alone shows that a chain was emptied, written anew or robbed of its newest entries"


@click.group(cls=Group)
def audit() -> None:
    """Show the audit, verify it, and cut what is too old.

    \b
    Example:
      decoder audit verify
    """


@audit.command(reads=("redis_url", "redis_ca_file"))
@click.option(
    "--since", type=InstantType(), help="From then on: how long ago, like 2h, or an RFC 3339 time.  [default: all]"
)
@click.option(
    "--until", type=InstantType(), help="Before then: how long ago, like 1h, or an RFC 3339 time.  [default: now]"
)
@click.option(
    "--user", metavar="NAME", help="Only of this Redis login, or user of an operating system.  [default: all]"
)
@click.option("--action", metavar="WORD", help="Only of this action, like reveal or forget.  [default: any]")
@click.option("--mission", metavar="ID", help="Only entries of this mission.  [default: of all]")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="The newest N of these; 0: all.",
)
@click.option("--keys", is_flag=True, help="Instead of what people did: which keys workers used, and since when.")
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

    An entry's time is by the clock of the machine that wrote it. One whose time is none is printed whatever times are asked for.

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
        note("there are older ones; --limit N prints more, --limit 0 all")
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
    help="Log lines to compare with; '-' reads standard input.  [default: none]",
)
@json_option
def verify(log: TextIO | None, as_json: bool) -> None:
    """Look for entries that were removed, changed, inserted or reordered; exit code 1 if there are any.

    Both chains are looked at: what people did, and which keys workers used. What was mended is told and is no failure.
    That a whole chain was rewritten or emptied, or that its newest entries were removed, shows only against a log that
    holds its lines.

    \b
    Example:
      decoder audit verify --log audit.log
    """
    # Read once for both; what does not matter is not kept, but keeps its number.
    lines = [line if LOG_FIELD in line else "" for line in log or ()]
    findings = [(chain, finding) for chain in CHAINS for finding in _open(CHAINS[chain]).verify(lines)]
    for chain, finding in findings:
        _tell(chain, finding, as_json)
    whole = all(finding.known for _, finding in findings)
    if whole and not as_json:
        say("the audit is whole" if log else "the audit is whole in itself")
    if not log:
        _tell(None, Finding("not_checked", None, _UNKNOWN), as_json)
    if not whole:
        raise SystemExit(1)


@audit.command(reads=("redis_url", "redis_ca_file", "audit_ttl"))
def trim() -> None:
    """Remove entries that are older than DECODER_AUDIT_TTL, on record.

    The auditor's login alone may. An entry of action `trim` says how many went, and which was the last of them, so that
    `verify` finds what anybody else cuts.

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
    """Put on record that what `verify` finds is known. Look at each finding first. The auditor's login may for both chains.

    What does not belong there stays where it is, and nothing is hidden: `verify` goes on to tell of it, with who mended
    it, when and why, but as no failure. What the log alone shows cannot be mended.

    \b
    Example:
      decoder audit mend --reason 'incident 4711: the reader login was stolen'
    """
    for chain, key in CHAINS.items():
        for finding in _open(key).mend(why=reason):
            _tell(chain, finding, as_json)  # each as it was found


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
