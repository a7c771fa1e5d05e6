"""The last release: its tag and its tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import unavailable

ROOT = Path(__file__).resolve().parents[1]


def last_release(root: Path = ROOT) -> str | None:
    """The latest tag `v1.2.3` before this commit; a tagged commit is compared with the release before it.

    None before the first release. If the changelog names releases and git has no tags, the clone is too shallow.
    """
    if shutil.which("git") is None:
        unavailable("git is not here")
    here = _git(root, "tag", "--points-at", "HEAD").split()
    tags = _git(root, "tag", "--merged", "HEAD", "--list", "v[0-9]*", "--sort=-version:refname").split()
    before = [tag for tag in tags if re.fullmatch(r"v\d+\.\d+\.\d+", tag) and tag not in here]
    if before:
        return before[0]
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if len(released) > 1:
        unavailable(f"CHANGELOG.md names the release {released[1]}, and git has no tag of it here: fetch the tags")
    return None


def tree_of_last_release(folder: Path) -> Path:
    """Write the last release's files into an empty folder; skip the test if there is no release."""
    tag = last_release()
    if tag is None:
        pytest.skip("nothing has been released yet")
    archive = subprocess.run(["git", "archive", tag], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def _git(root: Path, *arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return found.stdout  # empty outside a repository
