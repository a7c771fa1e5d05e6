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
            "Estimate the workers and the Redis that a daily load needs.",
        ),
        Lazy("worker.commands.check_url", "Check URLs against the policy without fetching them."),
        Lazy(
            "worker.commands.doctor",
            "Check Redis, keys and policy; or repair the ledger.",
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
    """Fetch mission URLs, extract the secrets in their documents, and seal them.

    DECODER_… variables configure everything: `decoder settings` prints them all. Exit codes: 0 success, 1 failure,
    2 wrong usage or settings. `decoder completion` sets up Tab completion.

    \b
    Example, which needs no other software:
      decoder run
    """
