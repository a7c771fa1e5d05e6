from __future__ import annotations

import io
from contextlib import suppress

import pyte
import pytest
from rich.console import Console

from mission.model import MissionStatus, Reason, State
from worker.local.progress import HEADER, LiveTable, Row
from worker.local.sample_site import Sample

COLUMNS, LINES = 80, 24


class File(io.StringIO):
    """A file that can pretend to be a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def rows_of(number: int) -> list[Row]:
    return [Row(Sample(f"http://127.0.0.1/{i}"), id=str(i), state=State.QUEUED) for i in range(number)]


def status(row: Row, state: State, attempts: int = 1, **more: object) -> MissionStatus:
    finished = "2026-11-29T08:00:00Z" if state.terminal else None
    values = {"secrets": None, "reason": None} | more
    return MissionStatus(str(row.id), state, attempts, submitted_at="", finished_at=finished, **values)  # type: ignore[arg-type]  # by name


def seen(rows: list[Row], columns: int = COLUMNS, lines: int = LINES) -> list[str]:
    """The lines of a terminal while the table is shown."""
    file, screen = File(terminal=True), pyte.Screen(columns, lines)
    console = Console(file=file, width=columns, height=lines, _environ={"TERM": "xterm"})
    with LiveTable(rows, console) as table:
        table.show()
        pyte.Stream(screen).feed(file.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display]


def test_each_mission_has_a_line_with_its_state_attempts_and_secrets_above_a_bar() -> None:
    rows = rows_of(3)
    rows[0].update(status(rows[0], State.SUCCEEDED, secrets=3))
    rows[1].update(status(rows[1], State.RETRYING, 2, reason=Reason.HTTP_SERVER_ERROR))
    rows.append(Row(Sample("nonsense"), reason=Reason.INVALID_URL))
    header, *lines, bar = (line for line in seen(rows) if line)
    assert tuple(header.split()) == HEADER
    assert [line.split() for line in lines] == [
        ["succeeded", "1", "3", "http://127.0.0.1/0"],
        ["retrying", "2", "http_server_error", "http://127.0.0.1/1"],
        ["queued", "0", "http://127.0.0.1/2"],
        ["refused", "0", "invalid_url", "nonsense"],
    ]
    assert bar.startswith("2/4 missions")


def test_of_ten_thousand_the_latest_are_shown_within_the_terminal_with_the_number_in_each_state() -> None:
    rows = rows_of(10_000)
    for row in rows[500:600]:
        row.update(status(row, State.RUNNING))
        row.update(status(row, State.SUCCEEDED, secrets=1))
    rows[7].update(status(rows[7], State.FAILED))
    lines = seen(rows)
    assert tuple(lines[0].split()) == HEADER
    assert [line.split()[-1] for line in lines[1:21]] == [f"http://127.0.0.1/{i}" for i in (*range(581, 600), 7)]
    assert lines[21] == "queued 9,899   succeeded 100   failed 1"
    assert lines[22].split()[0] == "101/10000"
    assert lines[23] == ""


@pytest.mark.parametrize("size", [(20, 3), (40, 6), (80, 24), (300, 100)])
def test_no_frame_is_larger_than_its_terminal(size: tuple[int, int]) -> None:
    rows = rows_of(150)
    rows[0].sample = Sample("http://127.0.0.1/" + "long" * 100)
    assert len([line for line in seen(rows, *size) if line]) <= size[1]
    assert all(line.count("http") <= 1 for line in seen(rows, *size))


def test_of_a_long_url_its_end_is_shown() -> None:
    (row,) = rows_of(1)
    row.sample = Sample("http://docs.example.com/a/long/folder/page?number=4711")
    line = seen([row])[1]
    assert len(line) == COLUMNS
    assert line.endswith("  …a/long/folder/page?number=4711")


def test_a_strangers_url_neither_steers_the_terminal_nor_is_taken_for_markup() -> None:
    row = Row(Sample("[red]x\x1b[2J\r\n\u202ey[/red][bold]"), reason=Reason.INVALID_URL)
    shown = next(line for line in seen([row], columns=120) if "refused" in line)
    assert shown.endswith(r"[red]x\x1b[2J\r\n\u202ey[/red][bold]")


def test_the_cursor_is_hidden_while_it_runs_and_nothing_remains() -> None:
    file, screen = File(terminal=True), pyte.Screen(COLUMNS, LINES)
    console = Console(file=file, width=COLUMNS, height=LINES, _environ={"TERM": "xterm"})
    with suppress(KeyboardInterrupt), LiveTable(rows_of(3), console) as table:
        table.show()
        assert "\x1b[?25l" in file.getvalue()
        raise KeyboardInterrupt
    pyte.Stream(screen).feed(file.getvalue().replace("\n", "\r\n"))
    assert not screen.cursor.hidden
    assert "".join(screen.display).strip() == ""


@pytest.mark.parametrize(
    ("terminal", "variables"), [(False, {"FORCE_COLOR": "1"}), (False, {}), (True, {"TERM": "dumb"})]
)
def test_what_is_no_terminal_or_cannot_redraw_gets_nothing(*, terminal: bool, variables: dict[str, str]) -> None:
    file = File(terminal=terminal)
    with LiveTable(rows_of(3), Console(file=file, _environ=variables)) as table:
        table.show()
        assert table.disable
    assert file.getvalue() == ""
