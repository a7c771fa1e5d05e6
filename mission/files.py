"""Files that are not for everybody: those that say whom the decoder trusts, which nobody else may change; those that hold
something secret, which nobody else may read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def distrust(path: Path, descriptor: int | None = None) -> str | None:
    """Why a file, or a folder for what lies in it, is not to be trusted: every user of the machine may write to it.

    What a link points to counts, as Kubernetes mounts links. So does that nobody can write where the file system is mounted
    read-only: Kubernetes mounts the folder of a ConfigMap so, with mode 0777.

    Args:
        path: its name.
        descriptor: the file where it is open, so that it is the one that is read.
    """
    file = path if descriptor is None else descriptor
    try:
        mode, flags = stat.S_IMODE(os.stat(file).st_mode), os.statvfs(file).f_flag
    except OSError:  # there is none: to say so is for who reads it
        return None
    if not mode & stat.S_IWOTH or flags & os.ST_RDONLY:
        return None
    return f"{path} may be changed by everybody (mode {mode:04o}): run `chmod o-w {path}`"


def open_to_others(path: Path, mode: int, holds: str, forbidden: int) -> str | None:
    """Why a file that holds something secret is not to be used: its permission bits have one of the forbidden ones."""
    if not mode & forbidden:
        return None
    return f"{path} holds {holds} and is open to others (mode {mode:04o}): run `chmod 600 {path}`"
