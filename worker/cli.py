"""The `decoder` command: run a worker, try the whole thing, look after keys and queues."""

from __future__ import annotations

import click

from mission.cli.completion import completion_command
from mission.cli.console import Commands, Lazy, version_option


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        Lazy("mission.cli.acl", "Print the ACL file of the Redis server."),
        Lazy("mission.cli.audit", "Show the audit, verify it, and cut what is too old."),
        Lazy("mission.cli.dead_letters", "Look at missions that ended without an answer; replay or discard them."),
        Lazy("mission.cli.keys", "Make keys, tell what a key file holds, seal results anew to another key."),
        Lazy("mission.cli.migrate", "Load this release's functions into Redis."),
        Lazy(
            "worker.commands.capacity",
            "Estimate the workers, Redis and network that a daily load needs, and the first bottleneck.",
        ),
        Lazy("worker.commands.check_url", "Check URLs against the policy without fetching them."),
        Lazy(
            "worker.commands.doctor",
            "Check Redis, keys and policy for this login; or repair the ledger.",
            "worker",
        ),
        Lazy("worker.commands.run", "Fetch URLs and print the secrets in them.", "embedded"),
        Lazy("worker.commands.rules", "List the rules that find secrets; check and test rule files."),
        Lazy(
            "worker.commands.scan",
            "Find secrets in files and folders, or on standard input.",
            "worker",
        ),
        Lazy("worker.commands.settings", "Print every setting with its current value."),
        Lazy("worker.commands.up", "Run the whole stack until Ctrl-C.", "embedded"),
        Lazy("worker.commands.worker", "Run a worker until SIGTERM.", "worker"),
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
