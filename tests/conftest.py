"""Shared fixtures: a real Valkey for the session, and settings for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from fakeredis import FakeRedisConnection, FakeServer

from mission.store.connection import connect
from mission.store.ledger import Ledger
from worker.extract.detectors import Detectors, user_cache
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

MEMORY = "redis://in-memory:6379/0"
# Public test data kept outside this repository: the variable that names its folder, and the default folder.
CORPORA = {"DECODER_WPT_DIR": "wpt", "DECODER_PACKS_DIR": "rules"}

# A background shell ignores SIGINT and SIGQUIT, and nohup ignores SIGHUP. Processes that tests end by signals would inherit that.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _own_environment(pytestconfig: pytest.Config) -> None:
    """Hide the developer's own settings from the tests. All runs here share the compiled rules."""
    assert pytestconfig.cache is not None
    os.environ["XDG_CACHE_HOME"] = str(pytestconfig.cache.mkdir("compiled"))
    for name in [name for name in os.environ if name.startswith("DECODER_") and name not in CORPORA]:
        del os.environ[name]


@pytest.fixture(scope="session")
def rules_cache() -> Path:
    """The folder for this session's compiled rules; the rules of the built-in detectors are already there."""
    list(Detectors().scanners())
    return user_cache()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Valkey only for this test process."""
    with EmbeddedRedis() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The store of a unit test: fakeredis in memory, and in the full suite a real server as well.

    fakeredis 2.40 has no INFO, CONFIG or WAIT, no HRANDFIELD in scripts and no restricted logins;
    kombu and child processes cannot reach it. A test that needs one of these is marked `server`, with its reason.
    """
    unit, server = "/unit/" in metafunc.definition.nodeid, metafunc.definition.get_closest_marker("server")
    if "redis_url" in metafunc.fixturenames and unit and not server:
        metafunc.parametrize("redis_url", ["memory", pytest.param("server", marks=pytest.mark.full)], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files: long tests first, then the full suite's, so that no core is idle at the end."""

    def seconds(item: pytest.Item) -> int:
        timeout = item.get_closest_marker("timeout")
        return timeout.args[0] if timeout else int(item.get_closest_marker("full") is not None)

    longest: dict[Path, int] = {}
    for item in items:
        longest[item.path] = max(longest.get(item.path, 0), seconds(item))
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store: the Valkey, or an in-memory store that only clients in this process reach."""
    if getattr(request, "param", "server") == "server":
        server: EmbeddedRedis = request.getfixturevalue("redis_server")
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return server.url
    memory = {"connection_class": FakeRedisConnection, "server": FakeServer(version=(7, 4))}
    from_url = vars(redis.Redis)["from_url"].__func__

    def from_url_or_memory(cls: type[redis.Redis], /, url: str, **options: Any) -> redis.Redis:
        client: redis.Redis = from_url(cls, url, **(options | memory if url == MEMORY else options))
        return client

    monkeypatch.setattr(redis.Redis, "from_url", classmethod(from_url_or_memory))
    return MEMORY


@pytest.fixture
def settings(redis_url: str) -> WorkerSettings:
    """Settings of an empty ledger."""
    return WorkerSettings.from_env(redis_url=redis_url)


@pytest.fixture
def client(settings: WorkerSettings) -> Iterator[redis.Redis]:
    """A client of the store."""
    with connect(settings) as client:
        yield client


@pytest.fixture
def ledger(client: redis.Redis, settings: WorkerSettings) -> Ledger:
    """An empty ledger."""
    return Ledger(client, settings)


def unavailable(reason: str) -> NoReturn:
    """Skip a test whose tool is missing on this machine; if CI is set, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def corpus(variable: str, name: str) -> Path:
    """A file of one of `CORPORA`."""
    beside = Path(__file__).parents[2] / "shared" / "corpora" / CORPORA[variable]
    file = Path(os.environ.get(variable) or beside) / name
    if not file.is_file():
        unavailable(f"{name} is not there: set {variable} to a folder that has it")
    return file


def wait_for(condition: Callable[[], object], *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Wait until a condition holds; fail with its name on a timeout."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
