"""The `decoder` command: run a worker, try the whole system, manage keys and queues."""

from __future__ import annotations

import click

from mission.cli.completion import completion_command
from mission.cli.console import Commands, Lazy, version_option


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        Lazy("mission.cli.acl", "Print the ACL file of the Redis server."),
        Lazy("mission.cli.audit", "Show the audit, verify it, and remove expired entries."),
        Lazy("mission.cli.dead_letters", "List, show, replay or discard dead letters."),
        Lazy("mission.cli.keys", "Generate keys, show key files, re-seal results to a new key."),
        Lazy("mission.cli.migrate", "Load this release's functions into Redis."),
        Lazy(
            "worker.commands.capacity",
            "Say what so many missions a day take: workers, Redis, network, and what breaks first.",
        ),
        Lazy("worker.commands.check_url", "Say what the policy says of each URL, without fetching it."),
        Lazy(
            "worker.commands.doctor",
            "Check Redis, keys and policy as a login finds them here; or repair the ledger.",
            "worker",
        ),
        Lazy("worker.commands.run", "Fetch URLs and print what they hold.", "embedded"),
        Lazy("worker.commands.rules", "Look at the rules that find secrets; check and test a file of them."),
        Lazy(
            "worker.commands.scan",
            "Find the secrets in files and folders, or in what comes on standard input.",
            "worker",
        ),
        Lazy("worker.commands.settings", "Print every setting as it stands."),
        Lazy("worker.commands.up", "Run all the pieces until Ctrl-C.", "embedded"),
        Lazy("worker.commands.worker", "Run a worker until SIGTERM.", "worker"),
        completion_command("decoder"),
    ],
)
@version_option
def main() -> None:
    """Fetch mission URLs, extract the secrets in their documents, and seal them.

    DECODER_… variables configure everything: `decoder settings` prints them all. Exit codes: 0 success, 1 failure,
    2 wrong usage or settings. `decoder completion` sets up Tab completion.

    \b
    Example, which needs no other software:
      decoder run
    """
