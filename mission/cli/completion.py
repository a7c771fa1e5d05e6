"""`mission completion` and `decoder completion`: Click's own completion by Tab, made easy to find."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete

from mission.cli.help import Command

SHELLS = ("bash", "zsh", "fish")


def completion_command(program: str) -> click.Command:
    """The command that prints the script which lets a shell complete `program`."""

    @click.command(
        "completion",
        cls=Command,
        help=f"""Print the script that lets a shell complete commands and options by Tab.

        A new shell has it once the script stands where that shell looks; bash must be 4.4 or newer.

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
