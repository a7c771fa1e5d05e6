"""Memory and CPU limits of the process' cgroups, versions 1 and 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 2**60


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """The lowest limit, in bytes, of the process' cgroups and their ancestors; None without a limit."""
    found = []
    for folder in _folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # the file does not exist; `max`
                found.append(int((folder / name).read_text()))
    return min((most for most in found if most < _UNLIMITED), default=None)


def cores(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """The lowest quota, in cores; None without a quota."""
    found = []
    for folder in _folders("cpu", root, own):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            found.append(int(quota) / int(period))
    return min((quota for quota in found if quota > 0), default=None)  # in version 1, -1 means no quota


def _folders(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The folders of the process' cgroups, each with its ancestors.

    In a container the folder named in `own` may not exist: then the root is the container's cgroup.
    """
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = root / controller if controllers else root
            folder = top / path.strip("/")
            yield from (place for place in (folder, *folder.parents) if place.is_relative_to(top))
