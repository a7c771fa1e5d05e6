"""Kubernetes from its sources: the program of ci/cluster, built once and cached outside the tree."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "ci" / "cluster"


def build_kubernetes() -> Path:
    """A folder with `kubernetes` and `pause`. The first build takes four minutes on two cores, and some 3 GB of Go's caches.

    Raises:
        subprocess.CalledProcessError: it cannot be built.
    """
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(SOURCES.rglob("*")) if file.is_file()))
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "decoder-cluster")
    folder = kept / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    found = re.search(r"k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", (SOURCES / "go.mod").read_text())
    assert found is not None
    version, major, minor = found.groups()
    print(f"building Kubernetes {version} from its sources: this takes minutes, once", file=sys.stderr, flush=True)
    named = "-X k8s.io/component-base/version.git"
    names = f"{named}Version=v{version} {named}Major={major} {named}Minor={minor}"
    shutil.rmtree(kept, ignore_errors=True)  # builds of other versions
    building = kept / "building"
    building.mkdir(parents=True)
    for program, package in (("kubernetes", "."), ("pause", "./pause")):
        subprocess.run(
            [
                "go",
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                f"-s -w {names}",
                "-o",
                building / program,
                package,
            ],
            cwd=SOURCES,
            env=os.environ | ({"CGO_ENABLED": "0"} if program == "pause" else {}),
            stdin=subprocess.DEVNULL,
            check=True,
        )
    building.rename(folder)
    return folder
