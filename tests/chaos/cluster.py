"""Two replicas and a Sentinel for an existing server; the replicas can be cut off from it."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.chaos.proxy import Proxy
from worker.local.children import end_child, start_child
from worker.local.embedded import EmbeddedRedis, _free_port, server_program

MASTER = "ledger"
DOWN_AFTER_SECONDS = 1.0
# After this time a Sentinel corrects replicas that name another master address: they then bypass the link that can be cut.
_PATIENCE_SECONDS = 120.0

_CONFIG = """
bind 127.0.0.1
port {port}
dir {folder}
requirepass {password}
sentinel monitor {master} 127.0.0.1 {master_port} 1
sentinel auth-pass {master} {password}
sentinel down-after-milliseconds {master} {down_after}
sentinel failover-timeout {master} {patience}
"""


class Cluster:
    """A context manager; its caller still owns the server. All share one password, since the URL has only one."""

    def __init__(self, master: EmbeddedRedis, folder: Path) -> None:
        self._master = master
        self._folder = folder
        self._port = _free_port()
        self._link = Proxy(master.port)
        self._password = urlsplit(master.url).password or ""
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The URL with which the decoder finds the master through the Sentinel."""
        return f"sentinel://:{self._password}@127.0.0.1:{self._port}/{MASTER}"

    def client(self) -> redis.Redis:
        """A patient client of the current master."""
        options = {"password": self._password, "socket_timeout": 2}
        sentinel = Sentinel([("127.0.0.1", self._port)], sentinel_kwargs=options, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        errors = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
        client: redis.Redis = sentinel.master_for(MASTER, retry=Retry(ConstantBackoff(0.2), 150, errors))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        return client

    def cut(self) -> None:
        """Cut the replicas off from the master."""
        self._link.cut()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._link)
            with redis.Redis.from_url(self._master.url) as client:
                client.config_set("repl-diskless-sync-delay", "0")  # by default it waits 5 s for more replicas
            for _ in range(2):
                replica = stack.enter_context(EmbeddedRedis())
                with redis.Redis.from_url(replica.url) as client:
                    client.config_set("masterauth", self._password)
                    client.replicaof("127.0.0.1", self._link.port)
                    client.config_set("requirepass", self._password)
            with redis.Redis.from_url(self._master.url) as client:
                client.config_set("masterauth", self._password)
                while client.info("replication")["connected_slaves"] < 2:
                    time.sleep(0.05)
                client.set("{decoder}:replicated", 1)
                while client.wait(2, 1000) < 2:
                    time.sleep(0.05)
                client.delete("{decoder}:replicated")
            stack.callback(end_child, self._start_sentinel(), grace=5)
            self._wait_for_sentinel()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_sentinel(self) -> subprocess.Popen[bytes]:
        config = self._folder / "sentinel.conf"  # it writes its state there
        config.write_text(
            _CONFIG.format(
                port=self._port,
                folder=self._folder,
                password=self._password,
                master=MASTER,
                master_port=self._master.port,
                down_after=round(DOWN_AFTER_SECONDS * 1000),
                patience=round(_PATIENCE_SECONDS * 1000),
            )
        )
        return start_child(
            [str(server_program()), str(config), "--sentinel"],
            folder=self._folder,
            log=self._folder / "sentinel.log",
            env={"PATH": os.defpath},
        )

    def _wait_for_sentinel(self) -> None:
        """Wait until it knows both replicas, so that it can promote one."""
        until = time.monotonic() + 30
        with redis.Redis(port=self._port, password=self._password, retry=Retry(ConstantBackoff(0.1), 100)) as client:
            while int(client.sentinel_master(MASTER)["num-slaves"]) < 2:
                if time.monotonic() > until:
                    raise TimeoutError("the Sentinel does not find the replicas")
                time.sleep(0.1)
