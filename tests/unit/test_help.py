"""The help of both programs: every command describes its purpose, a working example, defaults and variables."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mission.cli.console import Lazy
from mission.cli.help import Command
from mission.settings import PREFIX, Settings
from producer.cli import main as mission
from worker.cli import main as decoder
from worker.settings import WorkerSettings

PROGRAMS: dict[str, click.Group] = {"mission": mission, "decoder": decoder}
# Commands that neither connect nor read a setting.
WITHOUT_VARIABLES = {
    "mission completion",
    "decoder completion",
    "decoder settings",  # it reads every setting, and its help says so
    "decoder keys generate",
    "decoder keys show",
    "decoder acl",
    "decoder rules test",
}


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child in command.commands:
            _, below, _ = command.resolve_command(click.Context(command), [child])
            assert below
            yield from walk(f"{name} {child}", below)


ALL = dict(item for name, program in PROGRAMS.items() for item in walk(name, program))
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, click.Group)}


def options(command: click.Command) -> list[click.Option]:
    return [item for item in command.params if isinstance(item, click.Option)]


def help_of(name: str) -> str:
    program, *path = name.split()
    result = CliRunner().invoke(PROGRAMS[program], [*path, "--help"], prog_name=program, terminal_width=2000)
    assert result.exit_code == 0
    return result.stdout


def examples(name: str) -> list[str]:
    """The lines below `Example:`, with continued lines joined."""
    block = re.search(r"^  Example[^\n]*:\n((?:    .*\n)+)", help_of(name), re.MULTILINE)
    assert block, f"{name}: no example"
    return [line.strip() for line in re.sub(r"\\\n *", "", block[1]).splitlines()]


@pytest.mark.parametrize("name", ALL)
def test_every_command_says_in_a_sentence_what_it_is_for(name: str) -> None:
    text = ALL[name].help
    assert text
    assert re.match(r"[A-Z][^\n]{10,}", text.strip())


@pytest.mark.parametrize("name", [name for name in ALL if name.count(" ") == 1])
def test_a_commands_line_in_the_help_of_its_program_is_its_own_first_sentence(name: str) -> None:
    program, command = name.split()
    assert PROGRAMS[program].commands[command].get_short_help_str(1000) == ALL[name].get_short_help_str(1000)


@pytest.mark.parametrize("name", [name for name, command in ALL.items() if isinstance(command, click.Group)])
def test_on_a_terminal_of_80_columns_no_commands_line_is_cut(name: str) -> None:
    program, *path = name.split()
    shown = CliRunner().invoke(PROGRAMS[program], [*path, "--help"], prog_name=program, terminal_width=80).stdout
    commands = shown.partition("\nCommands:\n")[2]
    assert commands
    assert "..." not in commands


@pytest.mark.parametrize("tab", [False, True], ids=["help", "tab"])
@pytest.mark.parametrize(("package", "program"), [("producer", "mission"), ("worker", "decoder")])
def test_the_help_of_a_program_and_completion_import_no_command_and_nothing_dear(
    package: str, program: str, *, tab: bool
) -> None:
    code = (
        f"import atexit, sys\nfrom {package}.__main__ import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv[1:] = ['--help']\nmain()"
    )
    asked = {f"_{program.upper()}_COMPLETE": "bash_complete", "COMP_WORDS": f"{program} ", "COMP_CWORD": "1"}
    env = os.environ | (asked if tab else {})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stderr.split())
    commands = PROGRAMS[program].commands
    assert all(name in done.stdout for name in commands)
    assert not loaded & {command.module for command in commands.values() if isinstance(command, Lazy)}
    dear = "pydantic redis celery kombu cryptography tqdm requests prometheus_client"
    assert not loaded & set(dear.split())


@pytest.mark.parametrize("name", ALL)
def test_every_option_has_help(name: str) -> None:
    assert [option.name for option in options(ALL[name]) if not option.help] == []


@pytest.mark.parametrize("name", ALL)
def test_every_option_that_takes_a_value_is_required_or_tells_its_default(name: str) -> None:
    command = ALL[name]
    context = click.Context(command, info_name=name)
    for option in options(command):
        record = option.get_help_record(context)
        assert record
        assert option.is_flag or option.required or "[default: " in record[1], f"{name} {record[0]}"


@pytest.mark.parametrize("name", ALL)
def test_every_option_for_a_time_shows_a_unit(name: str) -> None:
    for option in options(ALL[name]):
        if option.type.name == "time":
            shown = f"{option.help} [default: {option.default}]"
            assert re.search(r"\b\d+(ms|s|m|h|d)\b", shown), f"{name}: {shown}"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_lists_the_variables_it_reads_with_their_defaults(name: str) -> None:
    command = LEAVES[name]
    assert isinstance(command, Command)
    assert bool(command.reads) is (name not in WITHOUT_VARIABLES)
    shown = " ".join(help_of(name).partition("\nEnvironment:\n")[2].split())
    rows = {row["variable"]: row for row in WorkerSettings.defaults()}
    for field in command.reads:
        row = rows[PREFIX + field.upper()]
        assert f"{row['variable']} {row['takes']} [default: {row['value'] or 'none'}]" in shown


@pytest.mark.parametrize("name", ["decoder run", "decoder up", "decoder scan"])
def test_what_looks_for_secrets_is_named_where_somebody_tries_it(name: str) -> None:
    assert {"detectors", "markers", "rules"} <= set(getattr(LEAVES[name], "reads", ()))


def test_the_defaults_in_the_help_are_not_those_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://:sesame@elsewhere.example/0")
    assert "elsewhere" not in help_of("mission enqueue")
    assert {row["set"] for row in Settings.defaults()} == {"default"}


@pytest.mark.parametrize("name", ALL)
def test_every_example_is_taken_by_the_command_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    called: list[str] = []
    for known, command in LEAVES.items():
        monkeypatch.setattr(command, "callback", lambda known=known, **_: called.append(known))
    for line in examples(name):
        for piece in line.split(" | "):
            words = [
                word for word in shlex.split(re.sub(r" (<|>>?) \S+", "", piece)) if not re.match(r"DECODER_\w+=", word)
            ]
            if words[0] not in PROGRAMS:
                continue  # another program in the pipe
            for word in words:
                if word.endswith((".txt", ".log")):
                    Path(word).touch()
            result = CliRunner().invoke(PROGRAMS[words[0]], words[1:])
            assert (result.exit_code, result.stderr) == (0, ""), line
    assert called
    assert all(known == name or known.startswith(f"{name} ") for known in called), called


@pytest.mark.parametrize("name", ALL)
def test_every_variable_that_the_help_names_is_a_setting(name: str) -> None:
    known = {PREFIX + field.upper() for field in WorkerSettings.model_fields}
    assert set(re.findall(r"DECODER_[A-Z_]+", help_of(name))) - {PREFIX} <= known
