"""Output that both commands share: one-line errors, exit codes, JSON lines, small tables.

Exit codes: 0 done, 1 the work failed, 2 usage or settings, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, NoReturn

import click

from mission.cli.help import Group
from mission.errors import DecoderError, InvalidMission, SettingsError
from mission.model import Confidence
from mission.units import parse_duration
from mission.version import COMMIT, VERSION

# A progress bar appears after this delay, so that it does not mix with notes printed at the start.
BAR_SECONDS = 0.5


class Lazy(click.Command):
    """A command that is imported when it is called. Its group's help and shell completion need only what is given here.

    Args:
        module: the full name of its module; the module and the function in it have the command's name.
        says: the first sentence of its help.
        extra: the extra of the distribution that it needs; None if the base install suffices.
    """

    def __init__(self, module: str, says: str, extra: str | None = None) -> None:
        self.module, self.extra = module, extra
        super().__init__(module.rpartition(".")[2].replace("_", "-"), help=says)

    def load(self) -> click.Command:
        """The command itself."""
        command: click.Command = getattr(import_module(self.module), self.module.rpartition(".")[2])
        return command


class Commands(Group):
    """A group whose commands report an error in one line on stderr, never with a traceback."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the called command, and import it now."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(lazy := command, Lazy):
            try:
                command = lazy.load()
            except ModuleNotFoundError as error:
                package = (error.name or "").partition(".")[0]
                if lazy.extra is None or package in ("mission", "producer", "worker"):
                    raise  # a broken install, not a missing extra
                if ctx.resilient_parsing:  # shell completion: there is nothing to complete
                    return None, None, rest
                what = f"{package} is not installed: `{ctx.command_path} {name}` needs it"
                raise SettingsError(f"{what} (pip install 'mission-decoder[{lazy.extra}]')") from None
        return name, command, rest

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the group's own options; turn a usage error into a line and an exit code."""
        with _usage_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn its expected errors into a line and an exit code."""
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except DecoderError as error:
            fail(str(error), *error.more, code=2 if isinstance(error, SettingsError) else 1)
        except BrokenPipeError:
            _drop_output()  # the reader closed the pipe (`| head`): print nothing more
            raise SystemExit(1) from None
        except OSError as error:
            _drop_output()
            what = f"{error.filename}: " if error.filename else ""
            fail(f"{what}{error.strerror or error}; needs a writable file with space left", code=1)
        except KeyboardInterrupt as stop:
            say(f"interrupted: {stop}" if stop.args else "interrupted", err=True)
            raise SystemExit(130) from None


def _drop_output() -> None:
    """Leave nothing to flush at exit to an output that accepts no more data."""
    with suppress(OSError):  # not a descriptor (a test's): nothing is flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # no arguments: Click shows the help
    except click.ClickException as error:
        text = " ".join(error.format_message().split())
        context = error.ctx if isinstance(error, click.UsageError) else None
        fail(f"{text} (see `{context.command_path} --help`)" if context else text, code=error.exit_code)


def say(*lines: str, err: bool = False) -> None:
    """Print lines. All text for people goes through here, so that none of it can control a terminal."""
    for line in lines:
        click.echo(printable(line), err=err)


def printable(text: str) -> str:
    """The text with control characters and line ends escaped: it may come from an untrusted document."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def fail(message: str, *more: str, code: int) -> NoReturn:
    """End the process with one line on stderr, followed by further lines.

    Raises:
        SystemExit: always, with `code`.
    """
    complain(message)
    say(*more, err=True)
    raise SystemExit(code) from None


def complain(message: object) -> None:
    """Report a failure on stderr and go on."""
    say(f"error: {message}", err=True)


def note(message: str) -> None:
    """Print a hint or a next step on stderr; it changes no exit code."""
    say(f"note: {message}", err=True)


def note_terminal(what: str) -> None:
    """Say what the command is waiting for, if standard input is a terminal."""
    if sys.stdin is not None and sys.stdin.isatty():
        note(f"reading {what} from the terminal; Ctrl-D ends it")


def emit_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    click.echo(json.dumps(record))  # JSON escapes keep non-ASCII text exact for the reader


def emit_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns that fit their widest cell."""
    cells = [[("" if cell is None else printable(str(cell))) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def emit_records(
    records: Iterable[Mapping[str, Any]], *, as_json: bool, fields: Sequence[str] = (), none: str = ""
) -> None:
    """Print records as JSON lines, or as a table of `fields` or all fields; without records, print `none` for people."""
    if as_json:
        for record in records:
            emit_json(record)
    elif rows := list(records):
        names = fields or list(rows[0])
        header = [name.removesuffix("_at").upper() for name in names]
        emit_table(header, [[row[name] for name in names] for row in rows])
    elif none:
        say(none, err=True)


class DurationType(click.ParamType[float]):
    """A duration on the command line, in seconds: `90s`, `5m`, `24h`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert to seconds; anything else is a usage error."""
        try:
            seconds = parse_duration(value)
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is not a duration; takes one like 90s, 5m or 24h", param, ctx)
        return seconds


class InstantType(click.ParamType[datetime]):
    """A time on the command line: how long ago, `2h`, or an RFC 3339 time, `2026-11-28T10:00:00Z`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Convert to a time with its zone; anything else is a usage error."""
        with suppress(ValueError, OverflowError):
            return datetime.now(UTC) - timedelta(seconds=parse_duration(value))
        with suppress(ValueError):
            if (time := datetime.fromisoformat(str(value))).tzinfo:
                return time
        return self.fail(
            f"{value!r} is not a time; takes how long ago, like 2h, or a time like 2026-11-28T10:00:00Z", param, ctx
        )


def _why(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from mission.audit.recorded import check_reason  # imports Redis, which no help needs

    try:
        return check_reason(value)
    except InvalidMission as error:
        raise click.BadParameter(error.detail) from None


def why_option(
    name: str = "--reason", says: str = "Reason, recorded in the audit log.", **extra: Any
) -> Callable[[Any], Any]:
    """The option for the reason that the audit records: trimmed; a usage error if empty or too long."""
    return click.option(name, callback=_why, metavar="TEXT", help=says, **({"required": True} | extra))


def confidence_option(says: str) -> Callable[[Any], Any]:
    """The option for the lowest confidence of a detector, as a `Confidence`."""
    return click.option(
        "--min-confidence",
        type=click.Choice([level.value for level in Confidence]),
        default=Confidence.LOW.value,
        show_default=True,
        callback=lambda _context, _option, level: Confidence(level),
        help=says,
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for scripts.")
version_option = click.version_option(VERSION, message=f"%(prog)s %(version)s (commit {COMMIT})")
