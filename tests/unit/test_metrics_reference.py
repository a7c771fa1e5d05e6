"""The reference in docs/metrics.md, generated from the catalogue that a worker serves."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ci.metrics import DOCUMENT
from tests.unit.worker.observe.test_metrics import CATALOGUE

TEXT = DOCUMENT.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(decoder_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", TEXT, re.MULTILINE)


def test_the_reference_is_in_step_with_the_catalogue() -> None:
    # In a new process: other tests have added series in this one.
    program = "from ci.metrics import DOCUMENT, with_tables; print(with_tables(DOCUMENT.read_text()), end='')"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert made == TEXT, "run `python -m ci.metrics`"


def test_it_has_each_metric_of_the_catalogue_with_its_type() -> None:
    assert {name.removesuffix("_total"): kind for name, kind, _, _ in ROWS} == CATALOGUE
    assert all(name.endswith("_total") == (kind == "counter") for name, kind, _, _ in ROWS)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("decoder_missions_total", "`outcome`: `dead`, `failed`, `succeeded`; `reason`"),
        ("decoder_rules_cached", "`detector`"),  # no series before rules are loaded
        ("decoder_key_first_used_timestamp_seconds", "`kind`; `key`"),
        ("decoder_mission_age_seconds", ""),
    ],
)
def test_labels_and_their_closed_sets_are_there(name: str, labels: str) -> None:
    assert [found for metric, _, found, _ in ROWS if metric == name] == [labels]


def test_its_questions_ask_for_metrics_that_there_are() -> None:
    asked = set(re.findall(r"decoder_\w+", TEXT.partition("## Example queries")[2]))
    assert asked
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in asked} <= {name for name, *_ in ROWS}
