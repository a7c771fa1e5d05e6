"""Fixtures for end-to-end tests: keys, a client, real worker processes, a real site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from mission.audit.log import AuditLog
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from tests.conftest import wait_for
from worker.local.sample_site import SampleSite
from worker.local.stack import Child, running_worker
from worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one test: the reader's identity, and the URL key."""

    identity: Identity
    url_key: str


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Keys for the session."""
    return Keys(Identity.generate(), generate_url_key())


@pytest.fixture
def site() -> Iterator[SampleSite]:
    """The sample site, fresh."""
    with SampleSite() as site:
        yield site


@pytest.fixture
def producer_settings(settings: WorkerSettings, keys: Keys) -> Settings:
    """A producer's settings."""
    return Settings.from_env(redis_url=settings.redis_url, url_key=keys.url_key)


@pytest.fixture
def mission_client(producer_settings: Settings) -> MissionClient:
    """A client of the empty ledger."""
    return MissionClient(producer_settings)


StartWorker = Callable[..., Child]


@pytest.fixture
def start_worker(settings: WorkerSettings, keys: Keys, tmp_path: Path) -> Iterator[StartWorker]:
    """Start worker processes that may fetch from loopback; they are killed at the end of the test."""
    with ExitStack() as stack:
        count = 0

        def start(*, processes: int = 1, **values: str) -> Child:
            nonlocal count
            count += 1
            folder = tmp_path / f"worker-{count}"
            folder.mkdir(mode=0o700)
            own = {
                "redis_url": settings.redis_url.get_secret_value(),
                "url_key": keys.url_key,
                "recipient": keys.identity.recipient.text,
                "allowed_schemes": "http,https",
                "allowed_networks": "127.0.0.0/8",
                "metrics_port": "0",
                "metrics_host": "127.0.0.1",
                "log_format": "json",
                "concurrency": "16",
            }
            child = stack.enter_context(running_worker(folder, own | values, processes=processes, grace=0))
            wait_for(
                lambda: child.log.read_text().count(" ready.") >= processes or child.process.poll() is not None,
                what="the worker",
            )
            child.check()
            return child

        yield start


@pytest.fixture
def reader(client: redis.Redis, keys: Keys) -> ResultReader:
    """A reader with the right to open results."""
    return ResultReader(client, [keys.identity], AuditLog(client, emit=lambda line: None))
