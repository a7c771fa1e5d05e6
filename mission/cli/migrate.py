"""`decoder migrate`: load what this release needs into the server."""

from __future__ import annotations

import time

import click

from mission.cli.console import DurationType, emit_json, json_option, say
from mission.cli.help import Command
from mission.errors import LedgerUnavailable
from mission.settings import Settings
from mission.store import library
from mission.store.connection import connect, outages

_SAYS = {
    library.Loaded.LOADED: "loaded library {number}",
    library.Loaded.REPLACED: "replaced by library {number}",
    library.Loaded.KEPT: "library {number} is already loaded",
    library.Loaded.NEWER: "kept a library newer than {number}",
}


@click.command(cls=Command, reads=("redis_url", "redis_ca_file"))
@click.option(
    "--wait",
    type=DurationType(),
    metavar="TIME",
    help="Retry for this long until Redis answers, like 60s.  [default: try once]",
)
@json_option
def migrate(wait: float | None, as_json: bool) -> None:
    """Load this release's functions into Redis.

    Run it before the release's workers and producers start. It needs the deployer's login. It is safe to repeat, and safe in a
    rollback: it keeps the functions of a newer release. Without restricted logins, workers and producers load missing functions
    themselves.

    \b
    Example:
      decoder migrate
      decoder migrate --wait 60s
    """
    until = time.monotonic() + (wait or 0.0)
    with connect(Settings.from_env()) as client:
        while True:
            try:
                with outages():
                    loaded = library.load(client)
                break
            except LedgerUnavailable:
                if time.monotonic() >= until:
                    raise
                time.sleep(1.0)
    detail = _SAYS[loaded].format(number=library.LIBRARY)
    if as_json:
        emit_json({"step": "functions", "outcome": loaded.value, "detail": detail})
    else:
        say(f"functions: {detail}")
