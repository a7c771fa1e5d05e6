"""Messages: Celery's settings for each kind of Redis, and the published messages."""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest
import redis
from celery import Celery
from redis.sentinel import SentinelConnectionPool

from mission.errors import LedgerUnavailable
from mission.ids import check_mission_id, new_mission_id
from mission.settings import Settings
from mission.store.ledger import Ledger
from mission.store.messages import DECODE, SCHEMA_HEADER, celery_config, wake_ups
from mission.store.names import QUEUE
from mission.store.scripts import WRITES
from mission.store.tls import VerifiedConnection
from tests.queue_entries import arguments

pytestmark = pytest.mark.server("kombu's own connections")


def messages(client: redis.Redis) -> list[bytes]:
    """The messages in the queue, the oldest first."""
    entries: Any = client.lrange(QUEUE, 0, -1)
    return list(reversed(entries))


def ids_of(message: bytes) -> list[str]:
    (ids,), kwargs = arguments(message)
    assert kwargs == {}
    return list(ids)


def test_missions_wake_workers_in_order_sixteen_to_a_message(ledger: Ledger, client: redis.Redis) -> None:
    ids = [new_mission_id() for _ in range(40)]
    ledger.wake(ids)
    published = [ids_of(message) for message in messages(client)]
    assert [len(chunk) for chunk in published] == [16, 16, 8]
    assert [mission_id for chunk in published for mission_id in chunk] == ids


def test_nobody_to_wake_is_no_message(ledger: Ledger, client: redis.Redis) -> None:
    ledger.wake([])
    assert messages(client) == []


def test_a_message_is_for_the_decode_task_and_shows_no_ids_to_watchers() -> None:
    own = new_mission_id()
    (entry,) = wake_ups([own])
    headers = json.loads(entry)["headers"]
    assert headers["task"] == DECODE
    assert check_mission_id(headers["id"]) != own
    assert headers[SCHEMA_HEADER] == WRITES
    assert own not in str(headers)


def test_a_queue_that_refuses_is_an_outage(ledger: Ledger, client: redis.Redis) -> None:
    client.set(QUEUE, "a string in place of the list")
    with pytest.raises(LedgerUnavailable, match=r"^store_unavailable: "):
        ledger.wake([new_mission_id()])


def config(**values: Any) -> dict[str, Any]:
    return celery_config(Settings.from_env(**values))


def test_every_wait_for_the_broker_has_an_end() -> None:
    found = config(redis_url="redis://127.0.0.1/0", redis_timeout="7s")
    assert found["broker_connection_timeout"] == found["redis_socket_timeout"] == 7
    assert found["broker_transport_options"]["socket_timeout"] == 7
    assert found["broker_transport_options"]["socket_connect_timeout"] == 7


@pytest.mark.parametrize("user", ["broker_use_ssl", "redis_backend_use_ssl"])
def test_tls_is_always_verified(user: str) -> None:
    found = config(redis_url="rediss://127.0.0.1/0")[user]
    assert found["ssl_cert_reqs"] in (ssl.CERT_REQUIRED, "required")
    assert found["ssl_check_hostname"] is True


def test_with_sentinels_tls_is_for_these_as_well() -> None:
    found = config(redis_url="rediss+sentinel://user:word@a.example,b.example/main")
    assert found["broker_url"] == "sentinel://user:word@a.example:26379;sentinel://user:word@b.example:26379"
    assert found["broker_use_ssl"]["ssl_check_hostname"] is True
    assert found["broker_transport_options"]["sentinel_kwargs"]["ssl"] is True
    clear = config(redis_url="sentinel://user:word@a.example,b.example/main")
    assert "broker_use_ssl" not in clear
    assert "ssl" not in clear["broker_transport_options"]["sentinel_kwargs"]


@pytest.mark.parametrize("url", ["rediss://a.example/0", "rediss+sentinel://a.example,b.example/main"])
def test_the_result_backend_takes_the_ledgers_kind_of_tls(url: str) -> None:
    app = Celery("tests", set_as_current=False, fixups=[])
    app.conf.update(config(redis_url=url))
    pool = app.backend.client.connection_pool
    nodes = [node.connection_pool for node in pool.sentinel_manager.sentinels] if "sentinel" in url else []
    assert all(issubclass(each.connection_class, VerifiedConnection) for each in (pool, *nodes))
    assert isinstance(pool, SentinelConnectionPool) is ("sentinel" in url)


def test_sentinels_without_a_login_are_named_without_one() -> None:
    found = config(redis_url="sentinel://a.example:1/main")
    assert found["broker_url"] == "sentinel://a.example:1"


def test_json_is_all_that_is_taken() -> None:
    assert config(redis_url="redis://a.example/0")["accept_content"] == ["json"]


def test_sentinels_are_named_one_by_one_with_the_login() -> None:
    found = config(redis_url="sentinel://user:p%40ss@a.example:1,b.example/main")
    assert found["broker_url"] == "sentinel://user:p%40ss@a.example:1;sentinel://user:p%40ss@b.example:26379"
    assert found["result_backend"] == found["broker_url"]
    assert found["broker_transport_options"]["master_name"] == "main"
    asked = found["broker_transport_options"]["sentinel_kwargs"]
    assert (asked["username"], asked["password"], asked["socket_timeout"]) == ("user", "p@ss", 5)
