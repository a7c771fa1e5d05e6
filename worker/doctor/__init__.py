"""What a production needs, looked at from where a login stands: one finding for each check.

Of a login that the ACL file knows (`mission.store.acl`) what is its work is judged, and what it may not see is told so. Any other
one is taken for a worker's.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from mission.store.acl import LOGINS
from worker.doctor import configured, egress, server
from worker.doctor.finding import Finding, Level
from worker.settings import WorkerSettings

__all__ = ["Finding", "Level", "examine"]


def examine(settings: WorkerSettings) -> Iterator[Finding]:
    """Every check, the settings' first. Redis' are left out where it does not answer."""
    login = unquote(urlsplit(settings.redis_url.get_secret_value()).username or "")
    seat = login if login in LOGINS else "worker"
    yield from configured.findings(settings, seat)
    yield from egress.findings(settings, seat)
    yield from server.findings(settings, seat)
