"""`decoder audit`: look at the audit, prove that nobody changed it, and cut what is too old, on record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TextIO

import click

from mission.audit.chain import Finding
from mission.audit.entry import LOG_FIELD
from mission.audit.log import AuditLog
from mission.cli.console import emit_json, emit_records, emit_table, json_option, say, why_option
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


def _tell(chain: str | None, finding: Finding, as_json: bool) -> None:
    if as_json:
        emit_json({"chain": chain} | asdict(finding))
        return
    known = f"; mended on {finding.known}" if finding.known else ""
    where = " (chain of keys)" if chain == "keys" else ""
    say(f"{'known: ' if known else ''}{finding.kind}: {finding.detail}{where}{known}")


def _open(chain: Key) -> AuditLog:
    return AuditLog(connect(Settings.from_env()), chain=chain)
