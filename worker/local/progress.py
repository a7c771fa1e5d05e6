"""A live view of missions while they run: a line for each, redrawn in place, and a bar."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from mission.cli.console import printable
from mission.model import Extraction, MissionStatus, Reason, State
from worker.local.sample_site import Sample

HEADER = ("STATE", "ATTEMPTS", "SECRETS", "REASON", "DOCUMENT")
# As wide as their longest text, so that no column moves while states change; the document takes the rest.
_WIDTHS, _GAP = (9, 8, 7, 17), 2
_COLOURS = {
    "running": "cyan",
    "retrying": "yellow",
    "succeeded": "green",
    "failed": "red",
    "dead": "red",
    "refused": "red",
}
# The lines besides the missions': the header, the numbers by state, the bar, and the cursor's line.
_OTHER_LINES = 4


@dataclass(slots=True)
class Row:
    """The progress of one URL. Its state is None if it was refused at admission: then `reason` says why.

    Attributes:
        found: how many secrets the worker reports; None until it succeeded.
        secrets: the secrets themselves, once they are revealed.
        changed: when its state or attempts last changed, as `time.monotonic` counts.
    """

    sample: Sample
    id: str | None = None
    state: State | str | None = None
    finished: bool = False
    attempts: int = 0
    reason: Reason | str | None = None
    found: int | None = None
    secrets: Extraction = field(default_factory=Extraction)
    changed: float = 0.0

    @property
    def as_intended(self) -> bool:
        """Whether it ended as it should."""
        wanted = self.sample
        return (
            self.state is wanted.state
            and (wanted.reason is None or self.reason is wanted.reason)
            and (wanted.secrets is None or len(self.secrets) == wanted.secrets)
        )

    @property
    def state_text(self) -> str:
        """The state for people and for JSON."""
        return str(self.state or "refused")

    @property
    def cells(self) -> tuple[object, ...]:
        """The row of a table under `HEADER`."""
        return (self.state_text, self.attempts, self.found, self.reason, self.sample.url)

    def update(self, status: MissionStatus) -> bool:
        """Take over a status. Return whether the mission just ended or waits for a retry."""
        before = (self.state, self.attempts)
        self.state, self.attempts, self.finished = status.state, status.attempts, status.finished
        self.reason, self.found = status.reason, status.secrets
        if (self.state, self.attempts) == before:
            return False
        self.changed = time.monotonic()
        return self.finished or self.state is State.RETRYING

    def as_dict(self, *, show: bool) -> dict[str, Any]:
        """The row as `--json` prints it."""
        return {
            "url": self.sample.url,
            "id": self.id,
            "state": self.state_text,
            "attempts": self.attempts,
            "reason": str(self.reason) if self.reason else None,
            "complete": self.secrets.complete,
            "cut": sorted(self.secrets.cut),
            "secrets": [secret.as_dict(show=show) for secret in self.secrets],
        }


class LiveTable(Progress):
    """The rows and a bar on stderr while the block runs, if it is a terminal. Nothing of it remains afterwards.

    Args:
        rows: all of them. If they do not fit, the latest to change are shown, and the number in each state.
        console: where to draw; stderr by default.
    """

    def __init__(self, rows: Sequence[Row], console: Console | None = None) -> None:
        self._rows = rows
        self._console = console = console or Console(stderr=True)
        # A variable such as FORCE_COLOR makes `rich` take a file for a terminal.
        watched = console.file.isatty() and console.is_interactive
        # The bar does not fill its line: the `^C` that a terminal echoes there must not begin another line.
        columns = (
            MofNCompleteColumn(),
            TextColumn("missions"),
            BarColumn(40, complete_style="cyan"),
            TimeElapsedColumn(),
        )
        super().__init__(*columns, console=console, auto_refresh=False, transient=True, disable=not watched)
        self._bar = self.add_task("", total=len(rows))

    def show(self) -> None:
        """Redraw it, as the rows are now."""
        self.update(self._bar, completed=sum(row.finished or row.id is None for row in self._rows), refresh=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The frame: a table of rows, numbers by state if not all fit, the bar."""
        room = max(1, self._console.height - _OTHER_LINES)
        wide = max(2, self._console.width - sum(_WIDTHS) - _GAP * len(_WIDTHS))
        shown = self._rows
        if len(self._rows) > room:
            shown = sorted(nlargest(room, self._rows, key=_changed), key=_changed)
        table = Table(*_columns(), box=None, padding=(0, _GAP, 0, 0), pad_edge=False, expand=True, header_style="bold")
        for row in shown:
            *cells, url = ("" if cell is None else printable(str(cell)) for cell in row.cells)
            if len(url) > wide:  # the end distinguishes it from other URLs of the same host
                url = f"…{url[1 - wide :]}"
            table.add_row(*map(Text, (*cells, url)), style=_COLOURS.get(row.state_text))
        yield table
        if len(shown) < len(self._rows):
            states = Counter(row.state_text for row in self._rows).most_common()
            yield Text("   ".join(f"{state} {number:,}" for state, number in states), no_wrap=True, overflow="ellipsis")
        yield self.make_tasks_table(self.tasks)


def _changed(row: Row) -> float:
    return row.changed


def _columns() -> list[Column]:
    fixed = [Column(name, width=width, no_wrap=True) for name, width in zip(HEADER, _WIDTHS, strict=False)]
    return [*fixed, Column(HEADER[-1], ratio=1, no_wrap=True, overflow="ellipsis")]
