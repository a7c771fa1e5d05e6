"""The key that a submitter's results are sealed to, also while keys change during the worker's run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mission.errors import SettingsError
from mission.seal.key_files import KeyLine, Kind
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from worker.keys import refresh
from worker.keys.recipients import Recipients
from worker.observe import metrics
from worker.settings import WorkerSettings

DEFAULT, TEAM_A, TEAM_B, NEW = (Identity(X25519, bytes([number]) * 32).recipient for number in range(1, 5))


@pytest.fixture(autouse=True)
def _read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key for each of two teams."""
    folder = tmp_path / "recipients"
    folder.mkdir()
    write(folder / "team-a.pub", TEAM_A.text)
    write(folder / "team-b.pub", TEAM_B.text)
    return folder


def write(path: Path, text: str) -> None:
    path.write_text(text + "\n")


def make(**values: Any) -> Recipients:
    return Recipients(WorkerSettings.from_env(**values))


def of(keys: Recipients, submitter: str) -> bytes:
    return keys.of(submitter).key_id


def test_a_submitter_with_a_key_of_its_own_gets_it_and_others_the_default(folder: Path) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    assert of(keys, "team-a") == TEAM_A.key_id
    assert of(keys, "team-b") == TEAM_B.key_id
    assert of(keys, "team-c") == DEFAULT.key_id


def test_without_a_default_a_submitter_without_a_key_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="DECODER_RECIPIENTS: no valid key for this submitter"):
        make(recipients=folder).of("team-c")


def test_with_neither_the_start_is_refused() -> None:
    with pytest.raises(SettingsError, match="DECODER_RECIPIENT: not set"):
        make()


@pytest.mark.parametrize(
    "text",
    ["", "decoder-recipient:x25519:AAAA", KeyLine(Kind.RECIPIENT, "x25519", bytes(32)).text, "x"],
    ids=["empty", "short", "of low order", "no key"],
)
def test_a_bad_file_at_the_start_is_refused_by_the_right_name(folder: Path, text: str) -> None:
    write(folder / "team-b.pub", text)
    with pytest.raises(SettingsError) as caught:
        make(recipient=DEFAULT.text, recipients=folder)
    assert str(caught.value).startswith(f"DECODER_RECIPIENTS: {folder / 'team-b.pub'}")


def test_a_bad_default_at_the_start_is_refused_by_its_own_name(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"^DECODER_RECIPIENT: "):
        make(recipient="decoder-recipient:x25519:AAAA", recipients=folder)


def test_an_identity_in_the_folder_is_refused(folder: Path) -> None:
    write(folder / "team-b.pub", Identity.generate().text)
    (folder / "team-b.pub").chmod(0o600)
    with pytest.raises(SettingsError, match=r"DECODER_RECIPIENTS: .*got an identity"):
        make(recipients=folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"DECODER_RECIPIENTS: got .* takes a folder"):
        make(recipients=tmp_path / "none")


def test_an_empty_folder_without_a_default_is_refused(tmp_path: Path) -> None:
    """Otherwise every mission would end without a result."""
    with pytest.raises(SettingsError, match=r"DECODER_RECIPIENTS: got '.*', which contains no NAME\.pub"):
        make(recipients=tmp_path)


def test_hidden_files_do_not_count(folder: Path) -> None:
    """Editors leave hidden files, and Kubernetes keeps the generations of a mounted volume in them."""
    write(folder / ".team-c.pub", "half a key")
    assert of(make(recipient=DEFAULT.text, recipients=folder), "team-c") == DEFAULT.key_id


def test_a_new_key_is_used_without_a_restart(folder: Path) -> None:
    keys = make(recipients=folder)
    write(folder / "team-a.pub", NEW.text)
    assert (of(keys, "team-a"), of(keys, "team-b")) == (NEW.key_id, TEAM_B.key_id)


def test_a_new_default_is_used_without_a_restart(tmp_path: Path) -> None:
    write(tmp_path / "reader.pub", DEFAULT.text)
    keys = make(recipient=str(tmp_path / "reader.pub"))
    write(tmp_path / "reader.pub", NEW.text)
    assert of(keys, "anyone") == NEW.key_id


def test_keys_are_not_read_at_every_mission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 3600.0)
    keys = make(recipients=folder)
    write(folder / "team-a.pub", NEW.text)
    assert of(keys, "team-a") == TEAM_A.key_id


@pytest.mark.parametrize("text", ["", "decoder-recipient:x25519:AAAA"])
def test_a_file_that_turns_bad_keeps_its_last_good_key_and_others_change(folder: Path, text: str) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    write(folder / "team-a.pub", text)
    write(folder / "team-b.pub", NEW.text)
    assert (of(keys, "team-a"), of(keys, "team-b")) == (TEAM_A.key_id, NEW.key_id)


def test_a_file_that_was_never_good_seals_to_nobody_else(folder: Path) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    write(folder / "team-c.pub", "half a key")
    with pytest.raises(SettingsError):
        keys.of("team-c")
    write(folder / "team-c.pub", NEW.text)
    assert of(keys, "team-c") == NEW.key_id


def test_a_file_that_is_gone_gives_way_to_the_default(folder: Path) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    (folder / "team-a.pub").unlink()
    assert of(keys, "team-a") == DEFAULT.key_id


def test_a_folder_that_is_gone_keeps_all_keys(folder: Path) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    folder.rename(folder.with_name("moved"))
    assert (of(keys, "team-a"), of(keys, "team-b")) == (TEAM_A.key_id, TEAM_B.key_id)


def test_a_file_that_turns_bad_is_logged_once_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = make(recipients=folder)
    write(folder / "team-a.pub", "half a key")
    for _ in range(3):
        keys.of("team-a")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(f"DECODER_RECIPIENTS: {folder / 'team-a.pub'}")
    assert metrics.REGISTRY.get_sample_value("decoder_bad_recipients") == 1
    write(folder / "team-a.pub", NEW.text)
    keys.of("team-a")
    assert metrics.REGISTRY.get_sample_value("decoder_bad_recipients") == 0


def test_a_change_of_key_is_logged_with_both_key_ids(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    keys = make(recipients=folder)
    caplog.clear()
    write(folder / "team-a.pub", NEW.text)
    keys.of("team-a")
    keys.of("team-a")
    (record,) = caplog.records
    assert record.getMessage() == f"recipient of team-a: key {NEW.key_id.hex()}, before {TEAM_A.key_id.hex()}"
    assert vars(record)["event.action"] == "recipient-changed"


@pytest.mark.parametrize("place", ["", "team-a.pub"], ids=["folder", "file"])
def test_what_everybody_may_change_is_refused_at_the_start(folder: Path, place: str) -> None:
    """This includes the folder: a user who can add a file there receives a submitter's results."""
    path = folder / place
    path.chmod(0o777)
    with pytest.raises(SettingsError, match=rf"^DECODER_RECIPIENTS: {path} .*: run `chmod o-w {path}`$"):
        make(recipients=folder)


@pytest.mark.parametrize("place", ["", "team-a.pub"], ids=["folder", "file"])
def test_what_turns_open_to_everybody_keeps_its_last_good_keys_and_is_logged_once(
    folder: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = make(recipient=DEFAULT.text, recipients=folder)
    (folder / place).chmod(0o777)
    write(folder / "team-a.pub", NEW.text)
    assert [of(keys, "team-a") for _ in range(3)] == [TEAM_A.key_id] * 3
    assert of(keys, "team-b") == TEAM_B.key_id
    assert caplog.text.count("chmod o-w") == 1
    assert metrics.REGISTRY.get_sample_value("decoder_bad_recipients") == 1
    (folder / place).chmod(0o755)
    assert of(keys, "team-a") == NEW.key_id
