"""A stand-in for the base image if no registry is reachable: only this system's shell and the running Python.

It tests the Dockerfile, not the base: production builds on the official Python image, by digest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import unavailable

_PROGRAMS = ("sh", "rm", "env", "install")
# Libraries that every wheel may assume (PEP 600).
_RUNTIME = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "librt.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "libutil.so.1",
)


def make_root(root: Path) -> None:
    """Create a root file system: `/usr/local/bin/python` with pip, a shell, their libraries, `/tmp`."""
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (prefix / "lib" / version / "ensurepip").is_dir():
        unavailable("the running Python has no ensurepip: the stand-in for the base image needs one")
    for folder in ("etc", "tmp", "proc", "dev", "sys", "run", "usr/bin", "usr/local/bin", "usr/local/lib"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "bin").symlink_to("usr/bin")
    skipped = shutil.ignore_patterns("test", "tests", "__pycache__", "site-packages", "dist-packages", "*.a", "idlelib")
    shutil.copytree(prefix / "lib" / version, root / "usr/local/lib" / version, ignore=skipped, symlinks=True)
    (root / "usr/local/lib" / version / "site-packages").mkdir()
    interpreter = root / "usr/local/bin" / version
    shutil.copy2(prefix / "bin" / version, interpreter)
    for name in ("python", "python3"):
        (interpreter.parent / name).symlink_to(version)
    programs = [Path(found) for name in _PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin"))]
    for program in programs:
        shutil.copy2(program.resolve(), root / "usr/bin" / program.name)
    copy_libraries(root, [*programs, interpreter, *(root / "usr/local/lib" / version / "lib-dynload").glob("*.so")])
    copy_libraries(root, [lib for name in _RUNTIME for lib in Path("/usr/lib").glob(f"*/{name}")], themselves=True)
    # As in the official image; Celery's message bus does not start without it.
    (root / "usr/share/zoneinfo").mkdir(parents=True)
    shutil.copy2("/usr/share/zoneinfo/UTC", root / "usr/share/zoneinfo/UTC")
    subprocess.run(["chroot", root, "/usr/local/bin/python", "-m", "ensurepip"], check=True, capture_output=True)


def copy_libraries(root: Path, files: Iterable[Path], *, themselves: bool = False) -> None:
    for file in files:
        shown = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        wanted = {Path(found) for found in re.findall(r"(/\S+) \(0x", shown)} | ({file} if themselves else set[Path]())
        for library in wanted:
            target = root / library.relative_to("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(library.resolve(), target)
