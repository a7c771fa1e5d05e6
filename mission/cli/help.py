"""Help that cannot drift: below a command's options stand the environment variables it reads, from the settings class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from mission.settings import PREFIX, Settings


class Command(click.Command):
    """A command whose help ends with the variables that matter to it, each with what it takes and its default.

    Args:
        settings: the class that has them.
        reads: their field names.
    """

    def __init__(
        self, *args: Any, settings: type[Settings] = Settings, reads: Sequence[str] = (), **extra: Any
    ) -> None:
        super().__init__(*args, **extra)
        self.settings = settings
        self.reads = tuple(reads)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the variables, then what else the end of the help holds."""
        if self.reads:
            rows = {row["variable"]: row for row in self.settings.defaults()}
            with formatter.section("Environment"):
                formatter.write_dl([_entry(rows[PREFIX + name.upper()]) for name in self.reads])
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _entry(row: dict[str, str]) -> tuple[str, str]:
    return row["variable"], f"{row['takes']}  [default: {row['value'] or 'none'}]"
