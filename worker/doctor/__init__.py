"""Production checks from the view of one login: one finding for each check.

A login of the ACL file (`mission.store.acl`) is checked for its own role; checks that it may not do are skipped. Any other login is
treated as a worker's.
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
    """Run every check, those of settings first. Skips those of Redis if it does not answer."""
    login = unquote(urlsplit(settings.redis_url.get_secret_value()).username or "")
    seat = login if login in LOGINS else "worker"
    yield from configured.findings(settings, seat)
    yield from egress.findings(settings, seat)
    yield from server.findings(settings, seat)
