"""The shared parts of both commands: one line and an exit code for every refusal, tables without terminal control codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from mission.cli.console import (
    Commands,
    DurationType,
    Lazy,
    emit_json,
    emit_table,
    printable,
    version_option,
    why_option,
)
from mission.errors import DecoderError, KeyFormatError, LedgerUnavailable, QueueFull, SettingsError
from mission.version import VERSION

RAISED: dict[str, BaseException] = {}


@click.group(cls=Commands)
@version_option
def main() -> None:
    """A command for these tests."""


@main.command()
@click.argument("name")
def fails(name: str) -> None:
    raise RAISED[name]


@main.command()
@click.option("--after", type=DurationType())
@why_option("--why", default="tests")
def does(after: float | None, why: str | None) -> None:
    click.echo(f"{after} {why}")


@main.group()
def group() -> None:
    """Subcommands."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("DECODER_X: got 'y'; takes z"), 2),
        (KeyFormatError("not a key"), 2),
        (DecoderError("did not work"), 1),
        (QueueFull(7), 1),
        (LedgerUnavailable("store_unavailable: away"), 1),
        (click.UsageError("no such thing"), 2),
        (click.ClickException("did not work"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_is_raised_on_purpose_is_one_line_and_a_code(error: BaseException, code: int) -> None:
    RAISED["it"] = error
    result = run("fails", "it")
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {getattr(error, 'message', error)}")


def test_what_takes_several_lines_has_them_and_none_of_them_steers_a_terminal() -> None:
    RAISED["it"] = SettingsError("the file is bad:", "a.toml:1: one", "a.toml:2: t\x1bwo\nerror: forged")
    result = run("fails", "it")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: the file is bad:",
        "a.toml:1: one",
        r"a.toml:2: t\x1bwo\nerror: forged",
    ]


def test_what_nobody_expected_is_not_hidden() -> None:
    RAISED["it"] = ZeroDivisionError()
    assert isinstance(run("fails", "it").exception, ZeroDivisionError)


def test_an_interruption_is_one_word() -> None:
    RAISED["it"] = KeyboardInterrupt()
    result = run("fails", "it")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "arguments", [["fails"], ["fails", "a", "b"], ["does", "--no"], ["nothing"], ["--no"], ["does", "--after", "soon"]]
)
def test_bad_usage_is_one_line_that_leads_to_the_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(" --help`)")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A program whose commands are imported when called; some cannot be imported."""
    lines = {"whole": "", "extra": "import no_such_extra", "broken": "import mission.no_such_module"}
    monkeypatch.syspath_prepend(tmp_path)
    for name, line in lines.items():
        text = f"import click\n{line}\n@click.command()\ndef {name}_one(): click.echo('done')\n"
        (tmp_path / f"{name}_one.py").write_text(text)
    return Commands("program", [Lazy(f"{name}_one", "One.", "sauce") for name in lines])


def test_a_command_is_imported_when_it_is_called(program: Commands) -> None:
    assert "extra-one   One.\n" in CliRunner().invoke(program, ["--help"]).stdout
    assert CliRunner().invoke(program, ["whole-one"]).stdout == "done\n"


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_command_whose_extra_is_missing_says_in_a_line_what_brings_it(
    program: Commands, arguments: list[str]
) -> None:
    result = CliRunner().invoke(program, ["extra-one", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: no_such_extra is not installed: `program extra-one` needs it (pip install 'mission-decoder[sauce]')\n"
    )


def test_tab_after_a_command_whose_extra_is_missing_completes_nothing(program: Commands) -> None:
    asked = ShellComplete(program, {}, "program", "_PROGRAM_COMPLETE")
    assert [item.value for item in asked.get_completions(["whole-one"], "--")] == ["--help"]
    assert asked.get_completions(["extra-one"], "--t") == []


def test_a_broken_install_is_not_called_a_missing_extra(program: Commands) -> None:
    assert isinstance(CliRunner().invoke(program, ["broken-one"]).exception, ModuleNotFoundError)


def test_what_steers_a_terminal_is_not_repeated_as_it_is() -> None:
    result = run("does", "--\x1b[2J")
    assert "\x1b" not in result.stderr
    assert "\\x1b[2J" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["group"]])
def test_asked_for_nothing_a_group_shows_its_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Usage: ")


def test_help_and_version_are_no_refusals() -> None:
    assert run("--help").exit_code == run("does", "--help").exit_code == 0
    assert VERSION in run("--version").stdout


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = (
        "import click\n"
        "from mission.cli.console import Commands\n"
        "@click.group(cls=Commands)\n"
        "def main(): pass\n"
        "@main.command()\n"
        "def talk():\n"
        "    while True: click.echo('more')\n"
        "main(['talk'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"more\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1", 1.0), ("250ms", 0.25)])
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert run("does", "--after", text).stdout == f"{seconds} tests\n"


@pytest.mark.parametrize("text", ["", "0", "-1s", "nan", "inf", "soon", "1 week"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    result = run("does", "--after", text)
    assert result.exit_code == 2
    assert f"{text!r} is not a duration; takes one like 90s, 5m or 24h" in result.stderr


def test_a_reason_is_trimmed() -> None:
    assert run("does", "--why", "  incident 4711 ").stdout == "None incident 4711\n"


@pytest.mark.parametrize("text", ["", "  ", "x" * 501])
def test_what_is_no_reason_is_refused(text: str) -> None:
    result = run("does", "--why", text)
    assert result.exit_code == 2
    assert "a reason has 1 to 500 characters" in result.stderr


def test_json_is_one_object_a_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"text": "a\nb\x1b \u2028 å", "number": 1, "nothing": None}
    emit_json(record)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert json.loads(shown) == record


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(("ID", "STATE"), [("a long one", None), ("b", "queued")])
    assert capsys.readouterr().out == "ID          STATE\na long one\nb           queued\n"


def test_a_table_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(("VALUE",), [("\x1b[2Jgone\r\n\u202eback",)])
    assert capsys.readouterr().out == "VALUE\n\\x1b[2Jgone\\r\\n\\u202eback\n"


def test_what_people_can_read_stays_as_it_is() -> None:
    assert printable("naïve 日本語 \N{GRINNING FACE}") == "naïve 日本語 \N{GRINNING FACE}"
