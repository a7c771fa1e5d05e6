"""The last release: which commit it is, and its tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import unavailable

ROOT = Path(__file__).resolve().parents[1]

# The commit that the newest tag names. A commit and not the tag: a clone without tags has it as well.
LAST_RELEASE = "c6573dded4b9e90a03cf84bcba232d3b04720176"


def tree_of_last_release(folder: Path) -> Path:
    """Write the last release's files into an empty folder."""
    if shutil.which("git") is None:
        unavailable("git is missing")
    archive = subprocess.run(["git", "archive", LAST_RELEASE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        unavailable(f"git does not have the last release, {LAST_RELEASE}: fetch the whole history")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder
