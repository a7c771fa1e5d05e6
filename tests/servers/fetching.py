"""Fetch from the tests' own servers as the pipeline does: loopback is allowed, and the test resolves names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from mission.url import MissionUrl, parse_url
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Document, Fetcher, Reach, Visit
from worker.fetch.policy import UrlPolicy
from worker.settings import WorkerSettings
from worker.work.retry import within_attempt

NAME = "docs.example"


class Fetching:
    """A fetcher and the tries within an attempt: `fetch` takes a URL's text, `attempts` holds the end of each try.

    `said` holds the report of each host slot by origin, and `visits` the slots; `rooms` the requested memory, in bytes.
    """

    def __init__(self, lookup: Callable[[str, int], Sequence[str]], options: dict[str, Any]) -> None:
        settings = WorkerSettings(**options)
        self.attempts: list[str] = []
        self.rooms: list[int] = []
        self.tries = settings.fetch_attempts
        self.said: list[tuple[str, Reach]] = []
        self.visits: list[Visit] = []
        self.fetcher = Fetcher(settings, UrlPolicy.from_settings(settings), Resolver(lookup))

    def fetch(self, url: str, *, seconds: float = 10.0) -> Document:
        parsed, deadline = parse_url(url), monotonic() + seconds
        return self.fetcher.fetch(
            parsed,
            deadline=deadline,
            visiting=self._visiting,
            again=lambda try_: within_attempt(try_, self.tries, deadline, self.attempts.append),
            room=lambda size, _deadline: self.rooms.append(size),
        )

    @contextmanager
    def _visiting(self, url: MissionUrl) -> Iterator[Visit]:
        visit = Visit()
        try:
            yield visit
        finally:
            self.said.append((url.origin, visit.reach))
            self.visits.append(visit)


@contextmanager
def fetching(
    *ports: int, lookup: Sequence[str] | Callable[[str, int], Sequence[str]] = ("127.0.0.1",), **options: Any
) -> Iterator[Fetching]:
    """A fetcher that may go to these ports of 127.0.0.1, ::1 and `NAME`; `options` are settings that win."""
    lead = lookup if callable(lookup) else lambda _host, _port: lookup
    defaults: dict[str, Any] = {
        "allowed_hosts": tuple(f"{host}:{port}" for port in ports for host in ("127.0.0.1", "[::1]", NAME)),
        "allowed_schemes": ("http", "https"),
        "allowed_networks": ("127.0.0.1/32", "::1/128"),
        "fetch_attempts": 1,
        "connect_timeout": 1.0,
        "read_timeout": 2.0,
        "max_bytes": 1024 * 1024,
    }
    rig = Fetching(lead, defaults | options)
    try:
        yield rig
    finally:
        rig.fetcher.close()
