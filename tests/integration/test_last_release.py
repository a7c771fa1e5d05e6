"""This tree beside the last release: what was named, and which functions a rollback meets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mission.store import library
from mission.version import VERSION
from tests.releases import ROOT, tree_of_last_release

# Only the full suite has the whole history.
pytestmark = pytest.mark.full


def printed_by(tree: Path, code: str) -> str:
    """What the code prints with another tree's modules."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def without_comments(lua: str) -> list[str]:
    lines = (line.split("--")[0].rstrip() for line in lua.splitlines())
    return [line for line in lines if line]


def test_the_changelog_names_this_version_first_and_the_last_release_with_it(tmp_path: Path) -> None:
    named = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    last = printed_by(tree_of_last_release(tmp_path), "from mission.version import VERSION; print(VERSION)").strip()
    assert named[0] == VERSION
    assert last in named[:2], "tests/releases.py names an older release"


def test_functions_that_changed_since_the_last_release_have_a_new_number(tmp_path: Path) -> None:
    code = "from mission.store import library; print(library.LIBRARY); print(library.source())"
    number, source = printed_by(tree_of_last_release(tmp_path), code).split("\n", 1)
    numbers = int(number), library.LIBRARY
    assert numbers[0] <= numbers[1]
    if without_comments(source) != without_comments(library.source()):
        assert numbers[0] < numbers[1]
