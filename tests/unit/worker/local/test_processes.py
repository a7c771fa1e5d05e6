"""Several worker processes under one command: the resources of each, and the reaction of the parent when one ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mission.errors import SettingsError
from tests.conftest import wait_for
from worker.local import processes
from worker.settings import WorkerSettings
from worker.work import cgroup

MIB = 1024**2
NAMES = ("DECODER_METRICS_PORT", "DECODER_HEALTH_FILE", "DECODER_MEMORY")


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment after the test; bind to no core, and have no memory limit."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(processes, "core_of", lambda *_: None)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)


def become(number: int, count: int, **values: object) -> list[str | None]:
    processes._become(number, count, WorkerSettings.from_env(**values))
    return [os.environ.get(name) for name in NAMES]


@pytest.mark.usefixtures("own_environment")
def test_each_has_a_port_and_a_health_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "health"
    found = [become(number, 3, metrics_port=9464, health_file=file) for number in range(3)]
    assert found == [["9464", f"{file}.0", None], ["9465", f"{file}.1", None], ["9466", f"{file}.2", None]]


@pytest.mark.usefixtures("own_environment")
def test_any_free_port_stays_any_free_port_and_no_health_file_none() -> None:
    assert become(1, 2, metrics_port=0) == [None, None, None]


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize(
    ("own", "cgroups", "share"),
    [
        (None, None, None),  # no limit to share
        (512 * MIB, None, None),
        (None, 1024 * MIB, 248 * MIB),  # minus the parent's share
        (128 * MIB, 1024 * MIB, 128 * MIB),
        (512 * MIB, 1024 * MIB, 248 * MIB),
        (None, 16 * MIB, 1),  # too little, but never zero
    ],
)
def test_the_cgroups_memory_is_for_all_of_them_and_the_setting_for_each(
    own: int | None, cgroups: int | None, share: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "memory_limit", lambda: cgroups)
    assert become(0, 4, memory=own)[2] == (share and str(share))


@pytest.mark.parametrize(
    ("cores", "quota", "count", "bound"),
    [
        ({0, 1}, None, 2, [0, 1]),
        ({3, 5, 9}, None, 2, [3, 5]),  # a cpuset's
        ({3, 5}, 2.0, 2, [3, 5]),
        ({0, 1}, None, 3, [None] * 3),
        ({0, 1, 2, 3}, 2.0, 2, [None] * 2),  # shared with other containers
        ({0, 1}, 0.5, 1, [None]),
    ],
)
def test_each_is_bound_to_a_core_where_each_can_have_its_own(
    cores: set[int], quota: float | None, count: int, bound: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(cgroup, "cores", lambda: quota)
    assert [processes.core_of(number, count) for number in range(count)] == bound


def test_where_a_process_cannot_be_bound_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    assert processes.core_of(0, 1) is None


def test_more_processes_than_ports_are_refused_with_what_fits() -> None:
    with pytest.raises(SettingsError, match=r"DECODER_METRICS_PORT: got 65535; .* 3 processes, up to 65533"):
        processes.split(3, WorkerSettings.from_env(metrics_port=65535))


# A substitute for workers: each prints its port and id, then runs the test's code.
PROGRAM = """
import os, signal, sys, time
from worker.local.processes import split
from worker.settings import WorkerSettings
split(2, WorkerSettings.from_env())
os.write(1, f"started {os.environ['DECODER_METRICS_PORT']} {os.getpid()}\\n".encode())  # in one write: two processes print at the same time
exec(sys.argv[1])
"""
WORKS = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); print('works', flush=True); time.sleep(600)"


class Command:
    """Two processes and their parent."""

    def __init__(self, behaviour: str, folder: Path, launcher: str = "") -> None:
        self._log = folder / "log"
        program = [sys.executable, "-c", launcher + PROGRAM, behaviour]
        env = os.environ | {"DECODER_HEALTH_FILE": str(folder / "health"), "DECODER_METRICS_PORT": "9464"}
        with self._log.open("wb") as output:
            self.parent = subprocess.Popen(program, env=env, stdout=output, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def processes(self) -> list[tuple[int, int]]:
        """The port and the id of each process that was started, in order."""
        return [(int(port), int(pid)) for port, pid in re.findall(r"started (\d+) (\d+)", self.log)]

    def wait_for(self, text: str, count: int) -> None:
        wait_for(lambda: self.log.count(text) >= count, what=f"{count} x {text!r}")


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start such a command; it is killed at the end."""
    with ExitStack() as stack:

        def run(behaviour: str, **options: str) -> Command:
            command = Command(behaviour, tmp_path, **options)
            stack.callback(command.parent.wait)
            stack.callback(command.parent.kill)
            return command

        yield run


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.full
def test_one_that_is_killed_is_started_anew_in_its_place_and_the_other_goes_on(start: Start) -> None:
    command = start(WORKS)
    command.wait_for("works", 2)
    before = dict(command.processes())
    os.kill(before[9465], signal.SIGKILL)
    command.wait_for("works", 3)
    port, anew = command.processes()[2]
    assert (port, gone(before[9464]), gone(anew)) == (9465, False, False)
    assert not Path(f"/proc/{before[9465]}").exists()  # not even as a zombie
    assert '"message": "worker process 1 ended (exit code -9); restarting it"' in command.log
    command.parent.terminate()
    assert command.parent.wait(30) == 0  # earlier failures were repaired


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_any_ending_signal_ends_all_in_order(number: signal.Signals, start: Start) -> None:
    command = start(WORKS)
    command.wait_for("works", 2)
    command.parent.send_signal(number)
    assert command.parent.wait(30) == 0
    assert all(gone(pid) for _, pid in command.processes())
    assert command.log.count("started") == 2


@pytest.mark.full
def test_those_that_have_only_begun_to_start_end_by_the_signal_itself_and_that_is_in_order(start: Start) -> None:
    command = start("print('works', flush=True); time.sleep(600)")
    command.wait_for("works", 2)
    command.parent.terminate()
    assert command.parent.wait(30) == 0


@pytest.mark.full
def test_any_number_of_signals_while_they_end_is_harmless(start: Start) -> None:
    command = start(
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True)); print('works', flush=True)\nwhile True: time.sleep(1)"
    )
    command.wait_for("works", 2)
    for turn in range(1, 4):
        command.parent.terminate()
        command.wait_for("asked", 2 * turn)
    assert command.parent.poll() is None  # it waits for them
    for _, pid in command.processes():
        os.kill(pid, signal.SIGKILL)
    assert command.parent.wait(30) == 1  # a killed process did not end in order
    assert command.log.count("ended (exit code -9)") == 2
    assert "anew" not in command.log


@pytest.mark.full
def test_one_that_refuses_its_settings_ends_all_with_2_and_is_not_started_anew(start: Start) -> None:
    command = start("os._exit(2) if os.environ['DECODER_METRICS_PORT'] == '9465' else time.sleep(600)")
    assert command.parent.wait(60) == 2
    assert all(gone(pid) for _, pid in command.processes())
    assert [port for port, _ in command.processes()].count(9465) == 1


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_they_end_with_a_parent_that_is_killed(start: Start) -> None:
    command = start("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('works', flush=True); time.sleep(600)")
    command.wait_for("works", 2)
    command.parent.kill()
    for _, pid in command.processes():
        wait_for(lambda pid=pid: gone(pid), what="its end")  # type: ignore[misc]  # mypy infers no type for it


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_what_a_dead_process_left_behind_disturbs_nobody(start: Start) -> None:
    """In a container the parent is process 1 and inherits orphans. A former version took an orphan for its own child, and ended all."""
    adopts = "import ctypes; ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER
    leaves = (
        "if (left := os.fork()) == 0:\n time.sleep(1); os._exit(3)\n"
        "os.write(1, f'{os.getpid()} left {left}\\n'.encode())\n"  # in one write, as above
    )
    command = start(leaves + WORKS, launcher=adopts)
    command.wait_for("works", 2)
    _, first = command.processes()[0]
    orphan = re.findall(rf"{first} left (\d+)", command.log)[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), what="the orphan to be waited for")
    command.wait_for("works", 3)
    command.parent.terminate()
    assert command.parent.wait(30) == 0
