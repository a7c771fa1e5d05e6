"""File permissions: nobody else may change the files that say whom the decoder trusts, or read those that hold secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def distrust(path: Path, descriptor: int | None = None) -> str | None:
    """Why a file or folder cannot be trusted: every user of the machine may write to it. None if it can.

    Links are followed: Kubernetes mounts files as links. A read-only file system counts as not writable: Kubernetes
    mounts the folder of a ConfigMap read-only, with mode 0777.

    Args:
        path: its name.
        descriptor: of the open file, if it is open, so that the check and the read see the same file.
    """
    file = path if descriptor is None else descriptor
    try:
        mode, flags = stat.S_IMODE(os.stat(file).st_mode), os.statvfs(file).f_flag
    except OSError:  # no such file: its reader reports that
        return None
    if not mode & stat.S_IWOTH or flags & os.ST_RDONLY:
        return None
    return f"{path} is writable by every user (mode {mode:04o}): run `chmod o-w {path}`"


def open_to_others(path: Path, mode: int, holds: str, forbidden: int) -> str | None:
    """Why a file that holds a secret cannot be used: its mode has a forbidden permission bit. None if it can."""
    if not mode & forbidden:
        return None
    return f"{path} holds {holds} and is open to others (mode {mode:04o}): run `chmod 600 {path}`"
