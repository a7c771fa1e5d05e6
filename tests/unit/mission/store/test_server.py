"""The server's condition, read from real servers: with a full disk, with a replica, with TLS."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from cryptography.x509.oid import ExtendedKeyUsageOID

from mission.errors import LedgerUnavailable
from mission.settings import Settings
from mission.store import server as module
from mission.store.connection import connect
from mission.store.names import Key
from mission.store.server import Server
from tests.conftest import wait_for
from tests.servers.certificates import Authority
from tests.servers.tls_redis import Certificates, tls_cluster, tls_redis
from worker.local.embedded import EmbeddedRedis, server_program

pytestmark = pytest.mark.full


@pytest.fixture
def own() -> Iterator[tuple[EmbeddedRedis, redis.Redis]]:
    """A server only for this test."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        yield server, client


def test_a_server_that_is_well(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    found = Server(own[1]).condition()
    assert (found.memory_limit, found.evicts, found.aof_written, found.replicas) == (0, False, True, 0)
    assert found.memory_used > 0
    assert (found.replica_lag, found.certificate_end) == (None, None)


def test_a_workers_login_sees_it(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    with redis.Redis.from_url(own[0].login_url("worker")) as worker:
        assert Server(worker).condition().aof_written


def test_a_worker_sees_how_large_the_audit_is_and_nothing_of_it(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    with redis.Redis.from_url(own[0].login_url("worker")) as worker:
        assert Server(worker).size_of(Key.AUDIT, Key.AUDIT_KEYS) == 0
        own[1].rpush(Key.AUDIT, *[b"x" * 1000] * 100)
        assert 100_000 < Server(worker).size_of(Key.AUDIT, Key.AUDIT_KEYS) < 150_000
        with pytest.raises(redis.exceptions.NoPermissionError):
            worker.lrange(Key.AUDIT, 0, -1)


def test_a_login_that_may_not_ask_is_told(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    with redis.Redis.from_url(own[0].login_url("producer")) as producer, pytest.raises(LedgerUnavailable):
        Server(producer).condition()


def test_settings_that_lose_missions_are_seen(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    own[1].config_set("maxmemory-policy", "allkeys-lru")
    own[1].config_set("appendonly", "no")
    found = Server(own[1]).condition()
    assert (found.evicts, found.aof_written) == (True, False)


@contextmanager
def small_disk(folder: Path) -> Iterator[redis.Redis]:
    """A server whose files cannot grow beyond 64 KiB; then the kernel fails a write, as on a full disk."""
    socket = folder / "s"
    command = [server_program(), "--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--dir", folder]
    script = (
        'trap "" XFSZ; ulimit -f 128; exec "$@"'  # in units of 512 bytes; without the trap, the kernel kills the writer
    )
    process = subprocess.Popen(["sh", "-c", script, "sh", *map(str, command)], stdout=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, what="the server")
        with redis.Redis(unix_socket_path=str(socket)) as client:
            yield client
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_an_aof_that_cannot_be_written_is_seen(tmp_path: Path) -> None:
    with small_disk(tmp_path) as client:
        assert Server(client).condition().aof_written
        client.set("large", b"x" * 200_000)
        wait_for(lambda: not Server(client).condition().aof_written, what="the write that fails")


def test_replicas_and_how_far_behind_they_are_is_seen(own: tuple[EmbeddedRedis, redis.Redis]) -> None:
    primary, client = own
    client.config_set("repl-diskless-sync-delay", "0")
    with EmbeddedRedis() as replica, redis.Redis.from_url(replica.url) as other:
        other.config_set("masterauth", str(urlsplit(primary.url).password))
        other.replicaof("127.0.0.1", primary.port)
        wait_for(lambda: Server(client).condition().replicas == 1, what="the replica")
        wait_for(lambda: Server(client).condition().replica_lag in (0, 1), what="a replica in step")
        assert replica.pid is not None
        stopped = subprocess.run(["kill", "-STOP", str(replica.pid)], check=False)
        assert stopped.returncode == 0
        wait_for(lambda: (Server(client).condition().replica_lag or 0) >= 3, what="a replica that lags")


def test_a_certificates_end_is_that_of_the_one_shown_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    old, new = (authority.certificate("127.0.0.1", days=(-1, days)) for days in (3, 20))
    with (
        tls_redis(tmp_path, certificate=old, ca=authority.ca_file) as port,
        connect(by_tls(authority, f"rediss://127.0.0.1:{port}/0", own_certificate(authority))) as client,
    ):
        server = Server(client)
        assert days_left(server) == 3
        client.config_set("tls-cert-file", str(new), "tls-key-file", str(new))
        assert days_left(server) == 3  # it was checked within the hour
        monkeypatch.setattr(module, "CERTIFICATE_SECONDS", 0.0)
        server = Server(client)  # its connection is older
        assert days_left(server) == 20


def test_the_certificate_is_that_of_the_master_whom_sentinels_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = own_certificate(authority)
    certificates = Certificates(authority.certificate("127.0.0.1", days=(-1, 5)), own, authority.ca_file)
    with tls_cluster(tmp_path, certificates) as cluster, connect(by_tls(authority, cluster.url, own)) as client:
        server = Server(client)
        assert days_left(server) == 5
        wait_for(lambda: server.condition().replicas == 1, what="the replica")


def own_certificate(authority: Authority) -> Path:
    return authority.certificate("worker", usage=ExtendedKeyUsageOID.CLIENT_AUTH)


def by_tls(authority: Authority, url: str, own: Path) -> Settings:
    files = {"redis_ca_file": authority.ca_file, "redis_cert_file": own, "redis_key_file": own}
    return Settings.from_env(redis_url=url, **{name: str(file) for name, file in files.items()})


def days_left(server: Server) -> int:
    end = server.condition().certificate_end
    assert end is not None
    return round((datetime.fromtimestamp(end, UTC) - datetime.now(UTC)) / timedelta(days=1))
