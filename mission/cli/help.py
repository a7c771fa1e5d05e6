"""Help that stays up to date: after a command's options come its environment variables, read from the settings class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # pydantic is slow to import, and only the end of a command's own help needs it
    from mission.settings import Settings


class Command(click.Command):
    """A command whose help ends with the environment variables that it reads, each with its description and default.

    Args:
        reads: the variables' field names.
        settings: the class with these fields; None for the class that both sides share.
    """

    def __init__(
        self, *args: Any, reads: Sequence[str] = (), settings: type[Settings] | None = None, **extra: Any
    ) -> None:
        super().__init__(*args, **extra)
        self.settings = settings
        self.reads = tuple(reads)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the variables, then the rest of the epilog."""
        if self.reads:
            from mission.settings import PREFIX, Settings

            rows = {row["variable"]: row for row in (self.settings or Settings).defaults()}
            with formatter.section("Environment"):
                formatter.write_dl(
                    (row["variable"], f"{row['takes']}  [default: {row['value'] or 'none'}]")
                    for row in (rows[PREFIX + name.upper()] for name in self.reads)
                )
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
