"""Run a document's commands in a real shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.documents.document import ROOT, Block, Command, blocks

SECONDS = 180.0
# Exit codes with which a program or the shell reports a wrong call.
MISUSE = (2, 126, 127)

_MARK = "\x1e"


@dataclass(frozen=True, slots=True)
class Typed:
    """A command, its exit code, and its output (both streams)."""

    command: Command
    code: int
    text: str

    @property
    def missing(self) -> list[str]:
        """The expected patterns that are missing in its output."""
        return [pattern for pattern in self.command.shows if not re.search(pattern, self.text)]

    def __str__(self) -> str:
        return f"$ {self.command.line}\n{self.text}[exit code {self.code}]"


def type_in(
    block: Block, env: Mapping[str, str], folder: Path, *, as_here: Callable[[str], str] = lambda text: text
) -> list[Typed]:
    """Run a block's commands one after the other in one shell, after the runbook's own set-up.

    Args:
        block: what to run.
        env: the shell's variables, in addition to a PATH with the decoder's commands.
        folder: the working folder; `helm/decoder` exists as in a clone.
        as_here: adapts a command or a pattern of the document to this machine.
    """
    setup = [command.line for other in blocks() if other.tag == "setup" for command in other.commands]
    script = [*setup]
    commands = [Command(as_here(command.line), tuple(map(as_here, command.shows))) for command in block.commands]
    for command in commands:
        script += [command.line, f'printf "{_MARK}%s{_MARK}" "$?"']
    chart = folder / "helm"
    if not chart.exists():
        chart.symlink_to(ROOT / "helm")
    path = [*filter(None, [env.get("PATH")]), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={**env, "PATH": ":".join(path), "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        check=False,
    )
    parts = done.stdout.decode(errors="replace").split(_MARK)
    codes, texts = parts[1::2], parts[::2]
    return [Typed(command, int(code), text) for command, code, text in zip(commands, codes, texts[:-1], strict=True)]
