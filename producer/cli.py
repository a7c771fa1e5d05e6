"""The `mission` command: enqueue missions, follow them, read and delete results."""

from __future__ import annotations

import click

from mission.cli.completion import completion_command
from mission.cli.console import Commands, Lazy, version_option


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[
        Lazy("producer.commands.cancel", "End missions that are queued or retrying."),
        Lazy("producer.commands.enqueue", "Enqueue missions: URLs from the command line or from a file."),
        Lazy("producer.commands.forget", "Delete a mission and its results, whatever its state."),
        Lazy("producer.commands.list", "List missions, the newest first."),
        Lazy("producer.commands.outcomes", "Print how missions end, live or since a given time."),
        Lazy("producer.commands.reveal", "Open a mission's result and print its secrets in clear."),
        Lazy("producer.commands.stats", "Count the missions in each state."),
        Lazy("producer.commands.status", "Show the status of missions, and why one failed."),
        Lazy("producer.commands.wait", "Wait until missions are finished, and report how each ended."),
        completion_command("mission"),
    ],
)
@version_option
def main() -> None:
    """Enqueue missions for the decoder, follow them, and read their results.

    \b
    Set the Redis URL and the URL key in the environment:
      export DECODER_REDIS_URL=rediss://user:password@redis.example.com:6379/0
      export DECODER_URL_KEY=/etc/decoder/url.key

    Exit codes: 0 done, 1 the work failed, 2 usage or settings. `mission completion` prints the shell completion script.

    \b
    Example:
      mission enqueue https://docs.example.com/page --wait
    """
