from __future__ import annotations

from collections.abc import Iterator

import pytest

from mission.store.ledger import Ledger
from tests.unit.worker.parts import BEGUN


@pytest.fixture
def ledger(ledger: Ledger) -> Iterator[Ledger]:
    """An empty ledger. When the test is over its coordinators look no more: the next test's missions are not theirs."""
    yield ledger
    while BEGUN:
        coordinator = BEGUN.pop()
        coordinator.close()
        coordinator.work(1)  # it says that it claims nothing: so no claim is under way
