"""The advice for each reason."""

from __future__ import annotations

import re

import pytest

from mission.cli.advice import ADVICE
from mission.model import Reason
from worker.settings import WorkerSettings


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_advice_in_one_line(reason: Reason) -> None:
    assert 10 < len(ADVICE[reason]) < 150
    assert "\n" not in ADVICE[reason]


def test_advice_names_only_variables_that_there_are() -> None:
    named = set(re.findall(r"DECODER_([A-Z_]+)", " ".join(ADVICE.values())))
    assert {name.lower() for name in named} <= set(WorkerSettings.model_fields)
