from __future__ import annotations

import pytest

from mission.store.ledger import Ledger
from tests.unit.worker.parts import Keys
from worker.settings import WorkerSettings


@pytest.fixture
def keys(ledger: Ledger, settings: WorkerSettings) -> Keys:
    return Keys(ledger, settings)
