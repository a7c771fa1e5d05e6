"""Fixtures that every test may use: a real Valkey for the session, and settings that point to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
import redis

from mission.store.connection import connect
from mission.store.ledger import Ledger
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

# Started in a shell's background, SIGINT is ignored, and so it would be in every process that a test presses Ctrl-C in.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_environment() -> None:
    """What the developer has set must not change what a test sees."""
    for name in [name for name in os.environ if name.startswith("DECODER_") and name != "DECODER_WPT_DIR"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Valkey of this test process' own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def settings(redis_server: EmbeddedRedis) -> WorkerSettings:
    """Settings for an empty ledger on that Valkey."""
    settings = WorkerSettings.from_env(redis_url=redis_server.url)
    with connect(settings) as client:
        client.flushall()
    return settings


@pytest.fixture
def client(settings: WorkerSettings) -> Iterator[redis.Redis]:
    """A client of that Valkey."""
    with connect(settings) as client:
        yield client


@pytest.fixture
def ledger(client: redis.Redis, settings: WorkerSettings) -> Ledger:
    """An empty ledger."""
    return Ledger(client, settings)


def unavailable(reason: str) -> NoReturn:
    """This machine lacks what the test needs: skip it, but fail where nothing may be lacking (CI is set)."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Wait until a condition holds; fail, naming it, when it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
