"""`mission outcomes`: how missions end."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mission.cli.console import InstantType, emit_json, json_option, note, say
from mission.cli.help import Command
from mission.client import MissionClient
from mission.model import Outcome
from mission.units import counted


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.option("--follow", is_flag=True, help="Go on with what ends from then on; Ctrl-C ends it.")
@click.option(
    "--group",
    metavar="NAME",
    help="Share them with all who name this group: each outcome goes to one of them, at least once.  [default: all of them]",
)
@click.option(
    "--since",
    type=InstantType(),
    help="Begin at this time, like 2h for two hours ago, or 2026-11-28T10:00:00Z; of a group only the first time.  "
    "[default: with --follow or --group now, else with the oldest that is kept]",
)
@json_option
def outcomes(group: str | None, since: datetime | None, *, follow: bool, as_json: bool) -> None:
    """Print how missions end, as it happens or since a time.

    That is id, submitter, state, reason, how many secrets were found, and when, of every mission that ended. It takes the producer's, the reader's
    or the operator's login. A group goes on where it was, also after a crash; then an outcome may come twice, with the same place.

    \b
    Example:
      mission outcomes --follow --json --group billing
    """
    if since is None and not (follow or group):
        since = datetime.fromtimestamp(0, UTC)
    for outcome in MissionClient.from_env().outcomes(group, since=since, follow=follow):
        if outcome.missed:
            note(
                f"up to {counted(outcome.missed, 'outcome')} before {outcome.id} were dropped before they were asked for"
            )
        if as_json:
            emit_json(outcome.as_dict())
        else:
            say(_line(outcome))


def _line(outcome: Outcome) -> str:
    found = counted(outcome.secrets, "secret") if outcome.secrets is not None else outcome.reason or ""
    return f"{outcome.finished_at}  {outcome.id}  {outcome.submitter}  {outcome.state}  {found}".rstrip()
