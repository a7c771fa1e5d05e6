"""Only one file spells the keys, and only two call and load functions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
NAMES, SCRIPTS, LIBRARY = (f"mission/store/{name}.py" for name in ("names", "scripts", "library"))


@pytest.mark.parametrize(
    ("kind", "pattern", "places"),
    [
        ("py", r"\{decoder\}|(?<!self\.)unacked|_kombu\.|celeryev|celery-task-meta|pidbox", {NAMES}),
        ("lua", r"decoder|redis\.p?call\('\w+', *['\"](?!STREAM')", set()),
        ("py", r"\.fcall|\"WAIT\"", {SCRIPTS, LIBRARY}),
        ("py", r"function_load|\.eval|script_load|register_script", {LIBRARY}),
    ],
    ids=["keys in Python", "keys in Lua", "calls and replicas", "loading"],
)
def test_one_place_has_it(kind: str, pattern: str, places: set[str]) -> None:
    files = [file for room in ("mission", "producer", "worker") for file in (ROOT / room).rglob(f"*.{kind}")]
    assert files
    assert {str(file.relative_to(ROOT)) for file in files if re.search(pattern, file.read_text())} == places
