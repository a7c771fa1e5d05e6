"""The audit log that operations of people write to."""

from __future__ import annotations

import pytest
import redis

from mission.audit.entry import Actor
from mission.audit.log import AuditLog


@pytest.fixture
def audit(client: redis.Redis) -> AuditLog:
    """An empty audit."""
    return AuditLog(client, Actor("operator", "olga", "desk-2"), lambda line: None)
