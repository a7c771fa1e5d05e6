"""Completion by Tab in real shells, with what `mission completion` and `decoder completion` print."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mission.cli.completion import SHELLS
from tests.conftest import unavailable
from tests.processes import started

pytestmark = pytest.mark.full

# The words typed before Tab, and the completed words.
TYPED = {
    "a command": ("mission enq", "mission enqueue "),
    "a command of the other one": ("decoder dead-l", "decoder dead-letters "),
    "a command below a command": ("decoder dead-letters rep", "decoder dead-letters replay "),
    "an option": ("mission enqueue --idem", "mission enqueue --idempotency-key "),
    "a value": ("decoder dead-letters list --reason read_t", "decoder dead-letters list --reason read_timeout "),
}
INTERACTIVE = {
    "bash": (["--noprofile", "--norc", "-i"], "PS1='> '; "),
    "zsh": (["-f", "-i"], "PS1='> '; autoload -Uz compinit; compinit -u -D; "),
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A user with the commands on PATH and a separate home."""
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"}


def program(shell: str) -> str:
    return shutil.which(shell) or unavailable(f"no {shell} here")


def scripts(shell: str, env: dict[str, str], folder: Path) -> list[Path]:
    """The scripts of both commands, as files."""
    files = []
    for name in ("mission", "decoder"):
        made = subprocess.run(
            [name, "completion", shell], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        assert made.stderr == ""
        files.append(folder / f"{name}.{shell}")
        files[-1].write_text(made.stdout)
    return files


class Terminal:
    """A terminal with an interactive shell."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str, *, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while text not in self.shown:
            if not select.select([self._descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                pytest.fail(f"waited {seconds:g} s in vain for {text!r}; the terminal shows {self.shown!r}")
            self.shown += os.read(self._descriptor, 4096).decode(errors="replace")


@contextmanager
def terminal(command: list[str], env: dict[str, str]) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    try:
        with started(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True):
            yield Terminal(ours)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_tab_completes_what_a_person_types(shell: str, env: dict[str, str], tmp_path: Path) -> None:
    options, setup = INTERACTIVE[shell]
    command = [program(shell), *options]
    sources = "; ".join(f". {file}" for file in scripts(shell, env, tmp_path))
    with terminal(command, env) as screen:
        screen.type(f"{setup}{sources}; echo re''ady\n")
        screen.wait_for("ready")
        for typed, completed in TYPED.values():
            screen.shown = ""
            screen.type(typed + "\t")
            screen.wait_for(completed)
            screen.type("\x15")  # Ctrl-U: forget the line


@pytest.mark.parametrize(("typed", "completed"), TYPED.values(), ids=TYPED)
def test_fish_completes(typed: str, completed: str, env: dict[str, str], tmp_path: Path) -> None:
    fish = program("fish")
    sources = "; ".join(f"source {file}" for file in scripts("fish", env, tmp_path))
    asked = [fish, "--no-config", "-c", f"{sources}; complete -C '{typed}'"]
    shown = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=60, check=True).stdout
    assert [line.partition("\t")[0] for line in shown.splitlines()] == [completed.split()[-1]]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_for_the_command_that_prints_it(shell: str, env: dict[str, str], tmp_path: Path) -> None:
    mission, decoder = (file.read_text() for file in scripts(shell, env, tmp_path))
    assert "_MISSION_COMPLETE" in mission
    assert "_DECODER_COMPLETE" in decoder


def test_a_bad_setting_keeps_nobody_from_completing(env: dict[str, str]) -> None:
    asked = {"_MISSION_COMPLETE": "bash_complete", "COMP_WORDS": "mission st", "COMP_CWORD": "1"}
    broken = {"DECODER_REDIS_URL": "nonsense", "DECODER_URL_KEY": "nonsense"}
    shown = subprocess.run(
        ["mission"], env=env | asked | broken, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.splitlines() == ["plain,stats", "plain,status"]
    assert shown.stderr == ""
