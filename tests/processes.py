"""Inspect processes from outside through /proc (Linux)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with text streams; killed at the end if it still runs, so that a failed test does not wait for it."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_in(folder: Path) -> list[int]:
    """Running processes whose working folder is this one or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = Path((entry / "cwd").readlink())
            except OSError:
                continue  # ended meanwhile, or belongs to another user
            if where.is_relative_to(folder):
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    """What `ps` shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def peak_memory(pid: int) -> int:
    """A process's peak memory so far, in bytes; 0 if it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    return 0


def held_open(pid: int) -> dict[str, bool]:
    """The open descriptors of a process, files by their path and others as `socket:[…]`, and whether each is writable."""
    found: dict[str, bool] = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            name = os.readlink(descriptor)
            flags = Path(f"/proc/{pid}/fdinfo", descriptor.name).read_text().split()[3]
            found[name] = found.get(name, False) or int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    return found


def listening_addresses(pid: int) -> set[str]:
    """The local addresses that a process listens on for TCP, in the kernel's hexadecimal (`0100007F` is 127.0.0.1)."""
    inodes = {target[8:-1] for target in held_open(pid) if target.startswith("socket:[")}
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
