"""The choke point guards every connection that a worker consumes from, or the worker does not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from mission.model import State
from mission.store.names import Key
from producer import MissionClient
from tests.chaos.cluster import Cluster
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite
from worker.local.stack import stack_environment
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

# A worker on a kombu that uses another command, so that the guard never sees the one it filters.
ANOTHER_KOMBU = """
from kombu.transport.redis import Channel
code = Channel._brpop_read.__code__
names = tuple("BLMPOP" if name == "BRPOP" else name for name in code.co_consts)
assert names != code.co_consts
Channel._brpop_read.__code__ = code.replace(co_consts=names)
from worker.__main__ import main
main()
"""


def test_a_worker_whose_guard_is_open_refuses_to_start_and_consumes_nothing(
    settings: WorkerSettings, keys: Keys, mission_client: MissionClient, client: redis.Redis
) -> None:
    ticket = mission_client.enqueue("https://docs.example/")
    client.lpush("missions", b"nonsense")
    before = client.lrange("missions", 0, -1)
    values = {
        "redis_url": settings.redis_url.get_secret_value(),
        "url_key": keys.url_key,
        "recipient": keys.identity.recipient.text,
        "metrics_port": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_KOMBU, "worker"],
        env=stack_environment(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: kombu ")
    assert client.lrange("missions", 0, -1) == before
    assert mission_client.status(ticket.id).state is State.QUEUED
    assert list(client.scan_iter("*guard*")) == []


def test_the_check_of_the_guard_leaves_no_trace(start_worker: StartWorker, client: redis.Redis) -> None:
    log = start_worker().log.read_text()
    assert list(client.scan_iter("*guard*")) == []
    assert client.exists(Key.QUARANTINE) == client.hlen("unacked") == 0
    assert "malformed" not in log


def test_the_guard_is_still_there_after_a_failover(
    keys: Keys, site: SampleSite, start_worker: StartWorker, tmp_path: Path
) -> None:
    """With several Sentinels, kombu tries one after the other when the master is lost; one of them is down."""
    folder = tmp_path / "sentinel"
    folder.mkdir(mode=0o700)
    with EmbeddedRedis() as master, Cluster(master, folder) as cluster, cluster.client() as client:
        url = cluster.url.replace("@", "@127.0.0.1:1,")
        worker = start_worker(redis_url=url, redis_timeout="2s", allowed_hosts=f"127.0.0.1:{site.port}")
        master.kill()
        wait_for(lambda: worker.log.read_text().count("Connected to ") >= 2, what="the new master")
        client.lpush("missions", b"nonsense")
        wait_for(lambda: client.xlen(Key.QUARANTINE) or worker.process.poll() is not None, what="the quarantine")
        worker.check()
        missions = MissionClient(WorkerSettings.from_env(redis_url=url, url_key=keys.url_key))
        ticket = missions.enqueue(f"{site.url}/letter.txt")
        assert missions.wait(ticket.id, timeout=60).state is State.SUCCEEDED
