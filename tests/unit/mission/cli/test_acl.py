"""`decoder acl`. tests/security/test_acl.py tests their effect on a real server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mission.store.acl import LOGINS
from worker.cli import main


def _run(text: str) -> Result:
    return CliRunner().invoke(main, ["acl", "-"], input=text)


def test_each_login_that_has_a_password_is_on_and_the_others_are_off() -> None:
    lines = _run("worker:one:two\n\nproducer:three\n").stdout.splitlines()
    state = {line.split()[1]: line.split()[3] for line in lines}
    assert state == dict.fromkeys(["default", *LOGINS], "off") | {"worker": "on", "producer": "on"}
    assert f" #{hashlib.sha256(b'one:two').hexdigest()} " in lines[1 + list(LOGINS).index("worker")]


def test_no_password_is_printed() -> None:
    assert "s3cret" not in _run("worker:s3cret\n").output


@pytest.mark.parametrize("text", ["", "\n", "s3cret\n", "worker:\n", "root:s3cret\n", "worker:a\nworker:s3cret\n"])
def test_what_is_no_list_of_logins_is_refused_in_one_line_without_being_repeated(text: str) -> None:
    result = _run(text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "LOGIN:PASSWORD" in result.stderr
    assert "s3cret" not in result.stderr


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_bytes(b"metrics:s3cret\xff\n")
    result = CliRunner().invoke(main, ["acl", str(tmp_path / "passwords")])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "s3cret" not in result.stderr


def test_a_file_serves_as_well(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("metrics:s3cret\n")
    result = CliRunner().invoke(main, ["acl", str(tmp_path / "passwords")])
    assert result.exit_code == 0
    assert result.stdout.startswith("user default reset off\n")
