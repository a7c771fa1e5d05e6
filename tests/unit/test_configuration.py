"""The table of settings in the documents, made from the settings classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.configuration import BEGIN, DOCUMENTS, END, table, with_table
from mission.settings import PREFIX
from worker.settings import WorkerSettings


def test_the_documentation_has_a_line_for_every_setting() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8")
    listed = re.findall(rf"^\| `{PREFIX}(\w+)` \|", text, re.MULTILINE)
    assert [name.lower() for name in listed] == list(WorkerSettings.model_fields)
    assert text.count(BEGIN) == text.count(END) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_with_the_table_is_in_step_with_the_settings(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == with_table(text), "run `python -m ci.configuration`"


def test_what_stands_around_the_table_stays() -> None:
    assert with_table(f"before\n{BEGIN}\nold\n{END}\nafter") == f"before\n{BEGIN}\n{table()}\n{END}\nafter"
    assert with_table("without marks") == "without marks"


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
