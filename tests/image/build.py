"""The image, built with buildah and the commands of docs/image.md on the stand-in base."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mission.version import VERSION
from tests.conftest import unavailable
from tests.documents.document import Block, blocks
from tests.image.stand_in import make_root

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/stand-in"
DECODER = f"decoder:{VERSION}"


class Buildah:
    """Buildah with a separate store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = ["--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]

    def __call__(self, *arguments: str | Path) -> str:
        return self._output(["buildah", *self._options, *map(str, arguments)])

    def type_in(self, block: Block, env: Mapping[str, str], *build: str) -> None:
        """Run a document's block, with this store and this machine's build options."""
        program = self._folder / "bin" / "buildah"
        program.parent.mkdir()
        real = [shutil.which("buildah") or "buildah", *self._options, "build", *build]
        program.write_text(f'#!/bin/sh\n[ "$1" = build ] && shift && exec {shlex.join(real)} "$@"\n')
        program.chmod(0o700)
        path = f"{program.parent}:{os.environ['PATH']}"
        text = "\n".join(command.line for command in block.commands)
        self._output(["bash", "-euc", text], cwd=ROOT, env={**os.environ, "PATH": path, **env})

    def _output(self, command: list[str], **options: Any) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return str(done.stdout).strip()


def fetch_wheels(folder: Path) -> Path:
    """The locked wheels, and a pip.conf that uses only them: the build needs no network."""
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(python), "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    requirements = ROOT / "requirements/image.txt"
    subprocess.run([*command, f"--requirement={requirements}", f"--dest={folder}/wheels"], check=True)
    conf = folder / "pip.conf"
    conf.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return conf


def build_image(folder: Path) -> Buildah:
    """Build `DECODER` in a store in this folder; the base's root file system stays in its `base`."""
    if missing := [name for name in ("buildah", "unshare", "chroot", "setpriv") if shutil.which(name) is None]:
        unavailable(f"not here: {', '.join(missing)} (Debian: buildah, util-linux)")
    if os.geteuid() != 0:
        unavailable("building and running an image without a daemon takes root here")
    buildah = Buildah(folder)
    (folder / "base").mkdir()
    make_root(folder / "base")
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, folder / "base", "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    buildah("commit", "--quiet", container, BASE)
    conf = fetch_wheels(folder)
    (by_hand,) = [block for block in blocks(ROOT / "docs/image.md") if block.tag == "buildah"]
    buildah.type_in(
        by_hand,
        {"BASE_IMAGE": BASE},
        "--isolation=chroot",
        f"--volume={conf.parent / 'wheels'}:/wheels:ro",
        f"--volume={conf}:/etc/pip.conf:ro",
    )
    return buildah
