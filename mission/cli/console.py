"""What the two commands share: errors as one line, exit codes, JSON lines, small tables.

Exit codes: 0 done, 1 the work failed, 2 usage or settings, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from mission.cli.help import Group
from mission.errors import DecoderError, InvalidMission, SettingsError
from mission.operate.results import check_reason
from mission.settings import parse_duration
from mission.version import COMMIT, VERSION


class Commands(Group):
    """A group whose commands refuse in one line on stderr, never with a traceback."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the group's own options; turn a usage error into a line and an exit code."""
        with _usage_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what it raises on purpose into a line and an exit code."""
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except SettingsError as error:
            fail(str(error), code=2)
        except DecoderError as error:
            fail(str(error), code=1)
        except BrokenPipeError:
            _drop_output()  # the reader went away (`| head`): nothing more to say
            raise SystemExit(1) from None
        except OSError as error:
            _drop_output()
            what = f"{error.filename}: " if error.filename else ""
            fail(f"{what}{error.strerror or error}; takes a place that can be written to, with space left", code=1)
        except KeyboardInterrupt as stop:
            click.echo(f"interrupted: {stop}" if stop.args else "interrupted", err=True)
            raise SystemExit(130) from None


def _drop_output() -> None:
    """Leave nothing to flush at exit to an output that takes no more."""
    with suppress(OSError):  # not a descriptor (a test's): nothing is flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # nothing was asked for: Click shows the help
    except click.ClickException as error:
        text = " ".join(printable(error.format_message()).split())
        context = error.ctx if isinstance(error, click.UsageError) else None
        fail(f"{text} (`{context.command_path} --help` says more)" if context else text, code=error.exit_code)


def fail(message: str, *, code: int) -> NoReturn:
    """End the process with one line on stderr.

    Raises:
        SystemExit: always, with `code`.
    """
    click.echo(f"error: {message}", err=True)
    raise SystemExit(code) from None


def note(message: str) -> None:
    """Tell a person, on stderr, what to know or to do next; it changes no exit code."""
    click.echo(f"note: {message}", err=True)


def note_terminal(what: str) -> None:
    """Say what is waited for where standard input is a person's keyboard."""
    if sys.stdin is not None and sys.stdin.isatty():
        note(f"reading {what} from the terminal; Ctrl-D ends it")


def emit_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    click.echo(json.dumps(record, ensure_ascii=False, separators=(", ", ": ")))


def emit_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need to be."""
    cells = [[("" if cell is None else printable(str(cell))) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """The text with what could steer a terminal escaped: it may come from a stranger's document."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class DurationType(click.ParamType[float]):
    """A duration on the command line, in seconds: `90s`, `5m`, `24h`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a usage error where it is none."""
        try:
            seconds = parse_duration(value)
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is no duration; it takes one like 90s, 5m or 24h", param, ctx)
        return seconds


class WhyType(click.ParamType[str]):
    """Why somebody does something, for the audit."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, trimmed; a usage error where it is empty or too long."""
        try:
            return check_reason(str(value))
        except InvalidMission as error:
            self.fail(error.detail, param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
version_option = click.version_option(VERSION, message=f"%(prog)s %(version)s (commit {COMMIT})")
