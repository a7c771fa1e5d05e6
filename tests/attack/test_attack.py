"""The short form of `make attack`. Only the long form judges how long the honest missions take."""

from __future__ import annotations

import pytest

from tests.attack.__main__ import table
from tests.attack.trial import attack
from tests.chaos.report import Scale

pytestmark = pytest.mark.full


@pytest.mark.timeout(180)
def test_no_attacker_stops_an_honest_submitter() -> None:
    verdict = attack(Scale.SHORT)
    assert not verdict.problems, table(verdict)
