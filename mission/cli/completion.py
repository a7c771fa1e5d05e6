"""`mission completion` and `decoder completion`: print Click's shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete

from mission.cli.help import Command

SHELLS = ("bash", "zsh", "fish")


def completion_command(program: str) -> click.Command:
    """The command that prints the shell completion script of `program`."""

    @click.command(
        "completion",
        cls=Command,
        help=f"""Print the shell completion script.

        Write it to the file shown below, then start a new shell; bash must be 4.4 or newer.

        \b
        Example:
          {program} completion bash >> ~/.bashrc
          {program} completion zsh >> ~/.zshrc
          {program} completion fish > ~/.config/fish/completions/{program}.fish
        """,
    )
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.pass_context
    def completion(context: click.Context, shell: str) -> None:
        shell_complete(context.find_root().command, {}, program, f"_{program.upper()}_COMPLETE", f"{shell}_source")

    return completion
