"""The configuration of the in-cluster Valkey, run by a real server with the decoder's own ACL file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mission.store import library
from mission.store.acl import acl_lines
from mission.store.names import Key
from tests.chart.rendering import environment, find, render
from tests.conftest import wait_for
from tests.security.half_sent import half_sent
from tests.servers.sockets import free_port
from worker.local.embedded import server_program

pytestmark = pytest.mark.full

PASSWORDS = {
    name: f"{name}-password"
    for name in ("producer", "celery", "worker", "flower", "reader", "operator", "auditor", "deployer")
}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server with the rendered configuration, except for paths and port."""
    port = free_port()
    conf = find(render(environment("staging")), "ConfigMap", "decoder-valkey")["data"]["valkey.conf"]
    (tmp_path / "data").mkdir()
    (tmp_path / "users.acl").write_text("\n".join(acl_lines(PASSWORDS)) + "\n")
    moved = {
        "aclfile /etc/valkey/acl/users.acl": f"aclfile {tmp_path}/users.acl",
        "port 6379": f"port {port}\nbind 127.0.0.1",
        "dir /data": f"dir {tmp_path}/data",
    }
    for before, after in moved.items():
        assert before in conf
        conf = conf.replace(before, after)
    (tmp_path / "valkey.conf").write_text(conf)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([server_program(), tmp_path / "valkey.conf"], stdout=log)
    try:
        wait_for(lambda: answers(port, "worker"), what="the server")
        yield port
    finally:
        server.terminate()
        server.wait()


def answers(port: int, user: str) -> bool:
    with redis.Redis(port=port, username=user, password=PASSWORDS[user]) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def test_each_login_gets_in(port: int) -> None:
    assert all(answers(port, user) for user in PASSWORDS)


def test_the_deployer_loads_the_functions_and_a_worker_calls_them(port: int) -> None:
    with redis.Redis(port=port, username="deployer", password=PASSWORDS["deployer"]) as client:
        library.load(client)
    with redis.Redis(port=port, username="worker", password=PASSWORDS["worker"]) as client:
        assert library.number(client) == library.LIBRARY


def test_nobody_gets_in_without_a_login(port: int) -> None:
    with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_what_is_acknowledged_is_on_the_disk_and_nothing_is_evicted(port: int) -> None:
    with redis.Redis(port=port, username="worker", password=PASSWORDS["worker"]) as client:
        info = client.info()
    assert isinstance(info, dict)
    assert info["aof_enabled"] == 1
    assert info["maxmemory_policy"] == "noeviction"
    assert info["maxmemory"] == 512 * 1024 * 1024


def test_arguments_that_are_half_sent_do_not_fill_the_memory(port: int) -> None:
    with redis.Redis(port=port, username="worker", password=PASSWORDS["worker"]) as client:
        with half_sent(port, "producer", PASSWORDS["producer"], connections=60):
            client.hincrby(Key.REFUSALS, "queue_full")
            info = client.info("memory")
        assert isinstance(info, dict)
        assert info["used_memory_peak"] < 256 * 1024 * 1024


def test_the_limit_of_memory_leaves_room_for_a_rewrite() -> None:
    objects = render(environment("staging"))
    conf = find(objects, "ConfigMap", "decoder-valkey")["data"]["valkey.conf"]
    (mebibytes,) = re.findall(r"^maxmemory (\d+)mb$", conf, re.MULTILINE)
    container = find(objects, "StatefulSet", "decoder-valkey")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert int(mebibytes) <= 0.6 * 1024
