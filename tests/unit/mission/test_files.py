"""Files that say whom the decoder trusts are refused if every user may change them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mission.errors import SettingsError
from mission.files import distrust
from worker.settings import WorkerSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An open file."""
    file = tmp_path / "ca.pem"
    file.touch()
    file.chmod(0o666)
    return file


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o440])
def test_what_only_owner_or_group_may_change_is_trusted(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert distrust(file) is None


def test_what_a_link_points_to_counts(file: Path, tmp_path: Path) -> None:
    """Kubernetes mounts files as links; a link itself has mode 0777."""
    link = tmp_path / "link"
    link.symlink_to(file)
    assert distrust(link) == f"{link} is writable by every user (mode 0666): run `chmod o-w {link}`"
    file.chmod(0o644)
    assert distrust(link) is None


def test_the_file_that_is_read_counts_not_another_that_took_its_name(file: Path) -> None:
    with file.open() as opened:
        file.unlink()
        file.touch(mode=0o600)
        assert distrust(file) is None
        assert distrust(file, opened.fileno()) is not None


def test_on_a_file_system_that_is_mounted_read_only_nobody_changes_anything(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a ConfigMap has mode 0777."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID))
    assert distrust(file) is None


@pytest.mark.parametrize("name", ["ca_file", "redis_ca_file", "redis_cert_file", "redis_key_file"])
def test_a_certificate_or_its_key_that_everybody_may_change_is_refused(file: Path, name: str) -> None:
    values = {"redis_url": "rediss://127.0.0.1:1/0", name: str(file)}
    with pytest.raises(SettingsError, match=rf"^DECODER_{name.upper()}: {file} .* run `chmod o-w {file}`$"):
        WorkerSettings.from_env(**values)
    file.chmod(0o644)
    assert getattr(WorkerSettings.from_env(**values), name) == file
