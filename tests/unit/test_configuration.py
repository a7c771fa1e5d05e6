"""The table of settings in docs/configuration.md, generated from the settings classes."""

from __future__ import annotations

import re

import pytest

from ci.configuration import DOCUMENT, table, with_table
from mission.settings import PREFIX
from worker.settings import WorkerSettings


def test_the_documented_table_is_in_step_with_the_settings() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == with_table(text), "run `python -m ci.configuration`"
    listed = re.findall(rf"^\| `{PREFIX}(\w+)` \|", text, re.MULTILINE)
    assert [name.lower() for name in listed] == list(WorkerSettings.model_fields)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("| `DECODER_DEADLINE` | `30s` |", "a duration has a unit"),
        ("| `DECODER_MAX_BYTES` | `10MiB` |", "a size has a unit"),
        ("| `DECODER_URL_KEY` |  |", "nothing is the default"),
    ],
)
def test_defaults_have_units(row: str, why: str) -> None:
    assert row in table(), why


def test_the_table_does_not_hold_what_is_set_here(monkeypatch: pytest.MonkeyPatch) -> None:
    before = table()
    monkeypatch.setenv("DECODER_DEADLINE", "7s")
    assert table() == before
