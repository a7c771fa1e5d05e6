"""`mission reveal`: read a mission's secrets, recorded in the audit log."""

from __future__ import annotations

from pathlib import Path

import click

from mission.cli.console import emit_json, json_option, say, why_option
from mission.cli.help import Command
from mission.cli.secrets import emit_secrets
from mission.operate.results import ResultReader


@click.command(cls=Command, reads=("redis_url", "redis_ca_file", "identity_file"))
@click.argument("mission_id", metavar="ID")
@why_option()
@click.option(
    "--identity",
    "identities",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="The reader's private key; repeatable.  [default: DECODER_IDENTITY_FILE]",
)
@json_option
def reveal(mission_id: str, reason: str, identities: tuple[Path, ...], as_json: bool) -> None:
    """Open a mission's result and print its secrets in clear.

    The audit records the read and its reason first. On a terminal, a note says so; if stderr is redirected, it gets the audit's log lines.

    \b
    Example:
      mission reveal 0f8fad5b-d9cb-469f-a165-70867728950e --reason "incident 4711"
    """
    found = ResultReader.from_env(identities).reveal(mission_id, reason=reason)
    if as_json:
        secrets = [secret.as_dict() for secret in found]
        emit_json({"id": mission_id, "complete": found.complete, "cut": sorted(found.cut), "secrets": secrets})
    else:
        emit_secrets([("", secret) for secret in found], show=True)
        if not found:
            say("the document held no secrets", err=True)
        if not found.complete:
            say(f"only part of the document was searched ({', '.join(sorted(found.cut))}): it may hold more secrets")
