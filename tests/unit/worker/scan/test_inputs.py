"""Reading a folder while an attacker changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.scan.inputs import Input, Inputs, Unreadable


def test_a_file_that_became_a_link_after_its_folder_was_read_is_not_followed(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").write_text("{* a *}")
    (link := tmp_path / "link").symlink_to(elsewhere)
    inputs = Inputs([str(tmp_path)], lambda *_: None)
    with pytest.raises(Unreadable):
        inputs.read(Input(str(link), walked=True))
    assert inputs.read(Input(str(link))) == b"{* a *}", "whoever names it means what it points to"
