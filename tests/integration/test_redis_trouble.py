"""Redis away, slow, frozen, full, read-only: workers wait and recover by themselves, producers get a clear refusal in time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from mission.errors import LedgerUnavailable
from mission.model import State
from mission.settings import Settings
from mission.store import library
from producer import MissionClient
from tests.chaos.site import Site
from tests.chaos.workers import Nursery, Worker
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import running_worker, stack_environment
from worker.observe.health import is_live, is_ready

pytestmark = pytest.mark.full

# The most time that a worker needs to recover after Redis is back.
BACK_SECONDS = 60.0


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A separate Valkey for this test, which breaks it."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def operator(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A patient client of that Valkey with every right."""
    with redis.Redis.from_url(redis_server.url, retry=Retry(ConstantBackoff(0.1), 100)) as client:
        yield client


@pytest.fixture
def fast_site() -> Iterator[Site]:
    """A site that answers immediately."""
    with Site() as site:
        yield site


StartQuickWorker = Callable[..., Worker]


@pytest.fixture
def start_quick_worker(
    redis_server: EmbeddedRedis, keys: Keys, fast_site: Site, tmp_path: Path
) -> Iterator[StartQuickWorker]:
    """Start a worker that detects lost leases within seconds."""
    with ExitStack() as stack:

        def start(**values: str) -> Worker:
            # A lease whose answer is lost in the outage expires within seconds as well.
            own = worker_values(redis_server, keys, fast_site) | {"deadline": "3s", "lease_seconds": "4s"}
            env = stack_environment(own | values)
            worker = stack.enter_context(Nursery(tmp_path / "workers", env, ["quick"])).start()
            wait_for(lambda: worker.ready() or worker.ended(), what="the worker")
            return worker

        yield start


def worker_values(redis_server: EmbeddedRedis, keys: Keys, site: Site) -> dict[str, str]:
    return {
        "redis_url": redis_server.login_url("worker"),
        "url_key": keys.url_key,
        "recipient": keys.identity.recipient.text,
        "allowed_hosts": site.authority,
        "allowed_schemes": "http",
        "allowed_networks": "127.0.0.0/8",
        "metrics_port": "0",
    }


# The log's messages about the ledger.
AWAY, REFUSES = "does not answer", "refuses"
# Disturb the server, step by step; the last step waits until the worker has noticed.
Trouble = Callable[[EmbeddedRedis, redis.Redis, Callable[[str], None]], None]


def _restart(server: EmbeddedRedis, _operator: redis.Redis, noticed: Callable[[str], None]) -> None:
    server.kill()
    noticed(AWAY)
    server.start()


def _freeze(server: EmbeddedRedis, _operator: redis.Redis, noticed: Callable[[str], None]) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    noticed(AWAY)
    os.kill(server.pid, signal.SIGCONT)


def _slow(_server: EmbeddedRedis, operator: redis.Redis, _noticed: Callable[[str], None]) -> None:
    operator.client_pause(1000)


def _cut(_server: EmbeddedRedis, operator: redis.Redis, _noticed: Callable[[str], None]) -> None:
    operator.client_kill_filter(_type="normal", skipme=True)


def _forget_functions(_server: EmbeddedRedis, operator: redis.Redis, noticed: Callable[[str], None]) -> None:
    operator.function_flush()
    noticed(REFUSES)
    library.load(operator)


def _fill(_server: EmbeddedRedis, operator: redis.Redis, noticed: Callable[[str], None]) -> None:
    operator.config_set("maxmemory", "1mb")
    noticed(REFUSES)
    operator.config_set("maxmemory", "0")


def _demote(_server: EmbeddedRedis, operator: redis.Redis, noticed: Callable[[str], None]) -> None:
    operator.replicaof("127.0.0.1", "9")  # a replica of an absent master: read-only, with the data it has
    noticed(REFUSES)
    operator.replicaof("NO", "ONE")


TROUBLES: dict[str, Trouble] = {
    "killed and started again": _restart,
    "frozen for longer than the time limit": _freeze,
    "slow": _slow,
    "all connections cut": _cut,
    "functions forgotten": _forget_functions,
    "full for a while": _fill,
    "read-only for a while": _demote,
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=list(TROUBLES))
def test_a_worker_comes_back_by_itself(
    trouble: Trouble,
    redis_server: EmbeddedRedis,
    operator: redis.Redis,
    mission_client: MissionClient,
    start_quick_worker: StartQuickWorker,
    fast_site: Site,
) -> None:
    worker = start_quick_worker(redis_timeout="1s")
    before = mission_client.enqueue(fast_site.url(1))

    def noticed(said: str) -> None:
        wait_for(lambda: f"the ledger {said}: " in worker.log.read_text(), what="the worker to notice")

    trouble(redis_server, operator, noticed)
    after = mission_client.enqueue(fast_site.url(2))
    for ticket in (before, after):
        assert mission_client.wait(ticket.id, timeout=BACK_SECONDS).state is State.SUCCEEDED
    assert not worker.ended()


def test_a_worker_that_starts_before_redis_waits_for_it(
    redis_server: EmbeddedRedis, mission_client: MissionClient, keys: Keys, fast_site: Site, tmp_path: Path
) -> None:
    ticket = mission_client.enqueue(fast_site.url(1))
    redis_server.stop()
    with running_worker(tmp_path, worker_values(redis_server, keys, fast_site), grace=0) as worker:
        worker.wait_until("Cannot connect to")
        redis_server.start()
        assert mission_client.wait(ticket.id, timeout=BACK_SECONDS).state is State.SUCCEEDED


def test_a_worker_without_redis_is_alive_and_not_ready(
    redis_server: EmbeddedRedis,
    mission_client: MissionClient,
    start_worker: StartWorker,
    fast_site: Site,
    tmp_path: Path,
) -> None:
    """With production timeouts it recovers by itself within the minute that the runbook promises."""
    health = tmp_path / "health"
    start_worker(health_file=str(health), allowed_hosts=fast_site.authority)
    wait_for(lambda: is_ready(health, time.time(), 10), what="the worker to be ready")
    redis_server.kill()
    wait_for(lambda: not is_ready(health, time.time(), 10), what="the worker to be no longer ready")
    assert is_live(health, time.time(), 10)
    redis_server.start()
    wait_for(lambda: is_ready(health, time.time(), 10), seconds=BACK_SECONDS, what="the worker to be ready again")
    ticket = mission_client.enqueue(fast_site.url(1))
    assert mission_client.wait(ticket.id, timeout=BACK_SECONDS).state is State.SUCCEEDED


@pytest.fixture
def hasty_client(producer_settings: Settings) -> MissionClient:
    """A producer that waits one second for Redis."""
    return MissionClient(producer_settings.model_copy(update={"redis_timeout": 1.0}))


def test_an_enqueue_is_refused_while_redis_is_away(redis_server: EmbeddedRedis, hasty_client: MissionClient) -> None:
    redis_server.kill()
    with pytest.raises(LedgerUnavailable):
        hasty_client.enqueue("https://docs.example/")


def test_an_enqueue_is_refused_in_time_while_redis_is_frozen(
    redis_server: EmbeddedRedis, hasty_client: MissionClient
) -> None:
    assert redis_server.pid is not None
    os.kill(redis_server.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(LedgerUnavailable):
            hasty_client.enqueue("https://docs.example/")
        assert time.monotonic() - began < 10
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)


def test_an_enqueue_is_refused_and_leaves_nothing_while_redis_is_full(
    operator: redis.Redis, hasty_client: MissionClient
) -> None:
    hasty_client.stats()
    before = operator.dbsize()
    operator.config_set("maxmemory", "1mb")
    with pytest.raises(LedgerUnavailable):
        hasty_client.enqueue("https://docs.example/")
    assert operator.dbsize() == before


def test_a_producer_goes_on_by_itself(redis_server: EmbeddedRedis, hasty_client: MissionClient) -> None:
    hasty_client.enqueue("https://docs.example/1")
    redis_server.kill()
    redis_server.start()
    second = hasty_client.enqueue("https://docs.example/2")
    assert hasty_client.status(second.id).state is State.QUEUED
    assert hasty_client.stats().queued == 2


def test_what_is_admitted_while_its_message_cannot_be_sent_is_accepted_all_the_same(
    operator: redis.Redis, mission_client: MissionClient, start_quick_worker: StartQuickWorker, fast_site: Site
) -> None:
    """The message queue's key has another type, so that publishing fails but admission works."""
    operator.set("missions", "in the way")
    ticket = mission_client.enqueue(fast_site.url(1))
    operator.delete("missions")
    start_quick_worker()
    assert mission_client.wait(ticket.id, timeout=BACK_SECONDS).state is State.SUCCEEDED
