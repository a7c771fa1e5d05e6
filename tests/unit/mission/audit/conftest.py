"""An audit, and its log."""

from __future__ import annotations

import pytest
import redis

from mission.audit.entry import Actor
from mission.audit.log import AuditLog

ACTOR = Actor("reader", "anna", "desk-1")


@pytest.fixture
def lines() -> list[str]:
    """The audit's log."""
    return []


@pytest.fixture
def audit(client: redis.Redis, lines: list[str]) -> AuditLog:
    """An empty audit."""
    return AuditLog(client, ACTOR, lines.append)
