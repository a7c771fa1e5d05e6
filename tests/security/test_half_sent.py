"""A login must not suffice to fill Redis' memory outside the data: `maxmemory` counts what connections hold."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import redis

from mission.store.acl import LOGINS
from mission.store.names import QUEUE
from tests.security.half_sent import half_sent
from worker.local.embedded import EmbeddedRedis

MAX_MEMORY = 512 * 1024 * 1024


@pytest.mark.parametrize("login", ["producer", "metrics"])
def test_arguments_that_are_half_sent_do_not_shut_others_out(login: str) -> None:
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", MAX_MEMORY)
        password = urlsplit(server.login_url(login)).password
        with half_sent(server.port, login, password or "", connections=60):
            for _ in range(20):
                client.lpush(QUEUE, "a message")
        peak = client.info("memory")
    assert isinstance(peak, dict)
    assert login in LOGINS
    assert peak["used_memory_peak"] < MAX_MEMORY / 2
