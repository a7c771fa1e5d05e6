"""Each key is spelled in one place, and so is how scripts are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
NAMES, SCRIPTS = "mission/store/names.py", "mission/store/scripts.py"


@pytest.mark.parametrize(
    ("kind", "pattern", "places"),
    [
        ("py", r"\{decoder\}|unacked|_kombu\.|celeryev|celery-task-meta|pidbox", {NAMES}),
        ("lua", r"decoder|redis\.p?call\('\w+', *['\"]", set()),
        ("py", r"\.evalsha|script_load|register_script|\"WAIT\"", {SCRIPTS}),
    ],
    ids=["keys in Python", "keys in Lua", "scripts and replicas"],
)
def test_one_place_has_it(kind: str, pattern: str, places: set[str]) -> None:
    files = [file for room in ("mission", "producer", "worker") for file in (ROOT / room).rglob(f"*.{kind}")]
    assert files
    assert {str(file.relative_to(ROOT)) for file in files if re.search(pattern, file.read_text())} == places
