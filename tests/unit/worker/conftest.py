from __future__ import annotations

from collections.abc import Iterator

import pytest

from mission.store.ledger import Ledger
from tests.unit.worker.parts import BEGUN


@pytest.fixture
def ledger(ledger: Ledger) -> Iterator[Ledger]:
    """An empty ledger. After the test its coordinators stop looking, so that they do not take the next test's missions."""
    yield ledger
    while BEGUN:
        coordinator = BEGUN.pop()
        coordinator.close()
        coordinator.work(1)  # it reports that it claims nothing, so no claim is in progress
