"""Every scenario in its short form: a broken guarantee fails the test and shows the table of results."""

from __future__ import annotations

import pytest

from tests.chaos.report import Scale, table
from tests.chaos.scenarios import SCENARIOS

pytestmark = pytest.mark.full


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_accepted_is_lost(name: str) -> None:
    report = SCENARIOS[name](Scale.SHORT)
    print(table([report]))
    if report.skipped:
        pytest.skip(report.skipped)
    assert report.accepted, table([report])
    assert not report.problems, table([report])
