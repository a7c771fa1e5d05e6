"""The `decoder` command: run a worker, try the whole thing, look after keys and queues."""

from __future__ import annotations

import click

from mission.cli.completion import completion_command
from mission.cli.console import Commands, Lazy, version_option


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        Lazy(
            "acl",
            "mission.cli.acl",
            "Print the ACL file of the Redis server: each kind of user with the least rights that do its work.",
        ),
        Lazy("audit", "mission.cli.audit", "Show the audit, and verify it."),
        Lazy(
            "check-url",
            "worker.commands.check_url",
            "Say what the policy says of each URL, without fetching it: allowed, or refused and why.",
        ),
        Lazy(
            "dead-letters",
            "mission.cli.dead_letters",
            "Look at missions that ended without an answer; replay or discard them.",
        ),
        Lazy(
            "doctor",
            "worker.commands.doctor",
            "Check Redis, keys and policy as a worker finds them here; a line each.",
            "worker",
        ),
        Lazy("keys", "mission.cli.keys", "Make keys, tell what a key file holds, seal results anew to another key."),
        Lazy("run", "worker.commands.run", "Fetch URLs and print what they hold.", "embedded"),
        Lazy(
            "scan",
            "worker.commands.scan",
            "Find the secrets in files, or in what comes on standard input; nothing is fetched and nothing is stored.",
        ),
        Lazy("settings", "worker.commands.settings", "Print every setting as it stands."),
        Lazy("up", "worker.commands.up", "Run all the pieces until Ctrl-C.", "embedded"),
        Lazy(
            "worker",
            "worker.commands.worker",
            "Run a worker until SIGTERM, configured by DECODER_… variables (`decoder settings` lists them).",
            "worker",
        ),
        completion_command("decoder"),
    ],
)
@version_option
def main() -> None:
    """Fetch mission URLs, extract the secrets that they hold, seal them.

    Everything is set by DECODER_… variables: `decoder settings` prints them all. Exit codes: 0 done, 1 the work failed,
    2 usage or settings. `decoder completion` sets up the Tab key.

    \b
    Example, with nothing else installed:
      decoder run
    """
