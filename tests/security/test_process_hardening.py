"""A real worker process, seen from outside: its memory reaches no disk, and no other program of its user can read it.

That log lines, exceptions and tracebacks hold no URL, no argument and no variable's value is shown in
tests/unit/worker/observe/test_logs.py and tests/security/test_nothing_in_clear.py; what `keep_memory_private` does alone, in tests/unit/mission/test_hardening.py; that no TLS keys are written, in tests/integration/test_redis_tls.py
and tests/security/test_environment_is_ignored.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mission.model import State
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from tests.conftest import unavailable, wait_for
from tests.processes import held_open
from tests.servers.certificates import Authority
from tests.servers.misbehaving import MisbehavingServer
from worker.local.stack import stack_environment
from worker.settings import WorkerSettings

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"), pytest.mark.full]

# Open in every process that has asked for a UUID by time, as kombu does, where the machine has this folder.
LIBUUIDS_CLOCK = "/var/lib/libuuid/clock.txt"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker started carelessly, with core dumps enabled."""

    process: subprocess.Popen[bytes]
    folder: Path
    client: MissionClient
    server: MisbehavingServer

    def work(self) -> None:
        """Let it fetch something over TLS."""
        ticket = self.client.enqueue(self.server.url("/ok"))
        assert self.client.wait(ticket.id, timeout=60).state is State.SUCCEEDED


def unprivileged() -> list[str]:
    """A command prefix that drops root's capabilities: with them, a program can read everything anyway."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        unavailable("no setpriv on PATH, and these tests run as root")
    return [setpriv, "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def worker(settings: WorkerSettings, tmp_path: Path) -> Iterator[Worker]:
    url = settings.redis_url.get_secret_value()
    url_key = generate_url_key()
    authority = Authority(tmp_path)
    values = {
        "redis_url": url,
        "url_key": url_key,
        "recipient": Identity.generate().recipient.text,
        "allowed_networks": "127.0.0.1/32",
        "ca_file": str(authority.ca_file),
        "metrics_port": "0",
        "metrics_host": "127.0.0.1",
        "health_file": str(tmp_path / "health"),
    }
    dumping = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh"]
    command = [*dumping, *unprivileged(), sys.executable, "-m", "worker", "worker"]
    with ExitStack() as stack:
        server = stack.enter_context(MisbehavingServer(authority.context("127.0.0.1")))
        host = f"127.0.0.1:{server.port}"
        log = stack.enter_context((tmp_path / "log").open("wb"))
        env = stack_environment(values | {"allowed_hosts": host})
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_for(lambda: "ready" in (tmp_path / "log").read_text() or process.poll() is not None, what="the worker")
        assert process.poll() is None, (tmp_path / "log").read_text()
        client = MissionClient(Settings.from_env(redis_url=url, url_key=url_key))
        yield Worker(process, tmp_path, client, server)


_PROBE = """
import sys
for name in sys.argv[1:]:
    try:
        open(name, "rb").read(1)
        print("open")
    except OSError as error:
        print(type(error).__name__)
"""


def look(*names: str) -> list[str]:
    """What another program of the same user gets when it opens files: `open`, or the error's name."""
    command = [*unprivileged(), sys.executable, "-c", _PROBE, *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()


def test_no_other_program_of_its_user_reads_its_memory_or_environment(worker: Worker) -> None:
    ordinary = subprocess.Popen(
        [*unprivileged(), sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    try:
        for name in ("environ", "maps", "auxv"):
            files = [f"/proc/{process.pid}/{name}" for process in (ordinary, worker.process)]
            assert look(*files) == ["open", "PermissionError"], name
    finally:
        ordinary.kill()
        ordinary.communicate()


@pytest.mark.parametrize("command", ["producer enqueue --from-file -", "worker scan -"])
def test_a_commands_memory_is_as_private_as_a_workers(command: str) -> None:
    """Readers and producers run these commands, with identities, URLs and secrets in memory."""
    arguments = [*unprivileged(), sys.executable, "-m", *command.split()]
    env = os.environ | {"DECODER_URL_KEY": generate_url_key()}
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, env=env) as process:
        limits = Path(f"/proc/{process.pid}/limits")
        try:
            wait_for(
                lambda: re.search(r"^Max core file size +0 +0 ", limits.read_text(), re.MULTILINE), what="the limit"
            )
            wait_for(lambda: look(f"/proc/{process.pid}/environ") == ["PermissionError"], what="a private environment")
            assert process.poll() is None
        finally:
            process.kill()


def test_the_installed_commands_are_the_ones_that_keep_their_memory_private() -> None:
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert (scripts["mission"], scripts["decoder"]) == ("producer.__main__:main", "worker.__main__:main")


def test_a_crash_leaves_no_core_file(worker: Worker) -> None:
    limits = Path(f"/proc/{worker.process.pid}/limits").read_text().splitlines()
    (core,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
    assert core == ["0", "0"]
    worker.process.send_signal(signal.SIGABRT)
    assert worker.process.wait(timeout=60) == -signal.SIGABRT
    assert not [path.name for path in worker.folder.iterdir() if "core" in path.name]


def test_its_files_are_open_to_its_user_alone(worker: Worker) -> None:
    health = worker.folder / "health"
    wait_for(health.exists, what="the health file")
    assert stat.S_IMODE(health.stat().st_mode) == 0o600


def test_it_writes_no_temporary_file(worker: Worker) -> None:
    """Only its log and its health file: apart from libuuid's clock it has no other regular file open."""
    worker.work()
    held = held_open(worker.process.pid)
    assert regular(name for name, writes in held.items() if writes) == {str(worker.folder / "log")}
    assert not [name for name in held if name.endswith("(deleted)")]
    # A library may read its own files still.
    wait_for(lambda: regular(held_open(worker.process.pid)) == {str(worker.folder / "log")}, what="no other file")


def regular(names: Iterable[str]) -> set[str]:
    """The regular files among them, without libuuid's clock."""
    files = {name for name in names if name.startswith("/") and Path(name.removesuffix(" (deleted)")).is_file()}
    return files - {LIBUUIDS_CLOCK}
