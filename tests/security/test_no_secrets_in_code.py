"""No key, password or token is part of this repository. Tests generate theirs at run time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mission.seal.key_files import Kind
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]

PATTERNS = {
    # Except the bytes 0 to 31 in order, which show the format of a line.
    "a key of the decoder's": rf"({Kind.IDENTITY}|{Kind.URL_KEY}):[a-z0-9-]+:(?!AAECAwQFBgcICQ)[A-Za-z0-9_-]{{43}}(?![A-Za-z0-9_-])",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{20}",
    "a cloud's access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token": r"\b(gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{20})",
}


def _files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        unavailable("this is no clone: there is nothing to say which files belong to it")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_holds(what: str) -> None:
    files = _files()
    assert len(files) > 100
    held = [str(file) for file in files if _found(PATTERNS[what], file.read_text(encoding="utf-8", errors="replace"))]
    assert held == []


def test_the_search_would_find_keys_that_were_made() -> None:
    for text in (Identity.generate().text, generate_url_key()):
        assert _found(PATTERNS["a key of the decoder's"], f"key = {text!r}")
