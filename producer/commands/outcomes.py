"""`mission outcomes`: print how missions end."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mission.cli.console import InstantType, emit_json, json_option, note, say
from mission.cli.help import Command
from mission.client import MissionClient
from mission.model import Outcome
from mission.units import counted


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.option("--follow", is_flag=True, help="Keep printing outcomes as missions end; stop with Ctrl-C.")
@click.option(
    "--group",
    metavar="NAME",
    help="Share the outcomes with every reader of this group: each goes to one reader, at least once.  [default: print all outcomes]",
)
@click.option(
    "--since",
    type=InstantType(),
    help="Start at this time, like 2h for two hours ago, or 2026-11-28T10:00:00Z; a group uses it only at its first start.  "
    "[default: now with --follow or --group, otherwise the oldest kept outcome]",
)
@json_option
def outcomes(group: str | None, since: datetime | None, *, follow: bool, as_json: bool) -> None:
    """Print how missions end, live or since a given time.

    Shows id, submitter, state, reason, number of secrets and end time of every mission that ended. Needs the producer's, the reader's
    or the operator's login. A group resumes where it stopped, also after a crash; an outcome may then appear twice, with the same place.

    \b
    Example:
      mission outcomes --follow --json --group billing
    """
    if since is None and not (follow or group):
        since = datetime.fromtimestamp(0, UTC)
    for outcome in MissionClient.from_env().outcomes(group, since=since, follow=follow):
        if outcome.missed:
            note(f"up to {counted(outcome.missed, 'outcome')} before {outcome.id} were dropped before they were read")
        if as_json:
            emit_json(outcome.as_dict())
        else:
            say(_line(outcome))


def _line(outcome: Outcome) -> str:
    found = counted(outcome.secrets, "secret") if outcome.secrets is not None else outcome.reason or ""
    return f"{outcome.finished_at}  {outcome.id}  {outcome.submitter}  {outcome.state}  {found}".rstrip()
