"""The npm packages that tests run, installed from ci/npm-shrinkwrap.json unless they are there already."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import unavailable

CI = Path(__file__).resolve().parents[1] / "ci"


def node_modules(folder: Path) -> Path:
    """The folder of the packages: that of `npm ci --prefix ci`, or one made in `folder`."""
    if shutil.which("node") is None or (npm := shutil.which("npm")) is None:
        unavailable("no node and npm on PATH")
    if (CI / "node_modules").is_dir():
        return CI / "node_modules"
    for name in ("package.json", "npm-shrinkwrap.json"):
        shutil.copy(CI / name, folder)
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"npm cannot install ci/npm-shrinkwrap.json: {done.stderr.strip()[-300:]}")
    return folder / "node_modules"
