"""Workers on a server whose functions are missing or of an older release."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from mission.model import State
from mission.store import library
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

OLDER = library.source().replace(f"library number {library.LIBRARY}\n", f"library number {library.LIBRARY - 1}\n")
OLDER = OLDER.replace(f"\nreturn {library.LIBRARY}\n", f"\nreturn {library.LIBRARY - 1}\n")


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A separate Valkey for this test, which removes its functions."""
    with EmbeddedRedis() as server:
        yield server


@pytest.mark.parametrize("there", [None, OLDER], ids=["none", "older ones"])
def test_a_worker_that_may_loads_its_functions_when_it_connects(
    client: redis.Redis, start_worker: StartWorker, there: str | None
) -> None:
    client.function_flush()
    if there:
        client.function_load(there)
    start_worker()
    assert library.stored(client) == library.source()


def test_a_worker_that_may_not_says_what_is_to_be_done_and_goes_on_once_it_is(
    client: redis.Redis,
    redis_server: EmbeddedRedis,
    start_worker: StartWorker,
    mission_client: MissionClient,
    site: SampleSite,
) -> None:
    client.function_flush()
    client.function_load(OLDER)
    url = redis_server.login_url("worker")
    worker = start_worker(redis_url=url, allowed_hosts=f"127.0.0.1:{site.port}")
    assert "Redis has older functions: run `decoder migrate`" in worker.log.read_text()
    client.function_flush()
    wait_for(lambda: "Redis lacks the decoder's functions" in worker.log.read_text(), what="the worker to notice")
    with redis.Redis.from_url(redis_server.login_url("deployer")) as deployer:
        library.load(deployer)
    ticket = mission_client.enqueue(f"{site.url}/letter.txt")
    assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
