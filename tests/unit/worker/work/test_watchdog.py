"""The watchdog: its answers to the probes, and when it ends the process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import wait_for
from worker.observe.health import Heartbeat, is_live, is_ready
from worker.work.watchdog import EXIT_STUCK, LOOP_SILENCE_SECONDS, OVERTIME_SECONDS, Watchdog

LEASE = 60.0


class Worker:
    """A scripted worker for the watchdog to observe."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "health"
        self.oldest = 0.0
        self.answers = True
        self.exits: list[int] = []
        self.wound_up: list[float] = []
        self.watchdog = Watchdog(
            Heartbeat(self.file),
            lambda: self.oldest,
            LEASE,
            lambda: self.answers,
            self.exits.append,
            self.wound_up.append,
        )

    @property
    def live(self) -> bool:
        return is_live(self.file, time.time(), 60)

    @property
    def ready(self) -> bool:
        return is_ready(self.file, time.time(), 60)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass for the watchdog."""

    def let_pass(seconds: float) -> None:
        now = time.monotonic() + seconds
        monkeypatch.setattr(time, "monotonic", lambda: now)

    return let_pass


def test_a_worker_that_works_is_live_and_ready(worker: Worker) -> None:
    worker.watchdog.look()
    assert (worker.live, worker.ready) == (True, True)


def test_a_worker_without_its_redis_is_live_and_not_ready(worker: Worker) -> None:
    worker.answers = False
    worker.watchdog.look()
    assert (worker.live, worker.ready) == (True, False)


def test_a_worker_that_takes_no_more_work_is_live_and_not_ready(worker: Worker) -> None:
    worker.watchdog.stop()
    worker.watchdog.look()
    assert (worker.live, worker.ready) == (True, False)


def test_a_worker_whose_loop_stands_while_redis_answers_is_not_live(
    worker: Worker, pass_time: Callable[[float], None]
) -> None:
    pass_time(LOOP_SILENCE_SECONDS + 1)
    worker.watchdog.look()
    assert not worker.file.exists()


def test_a_loop_that_stands_while_redis_is_away_is_no_reason_to_die(
    worker: Worker, pass_time: Callable[[float], None]
) -> None:
    worker.answers = False
    pass_time(LOOP_SILENCE_SECONDS + 1)
    worker.watchdog.look()
    assert worker.live


def test_a_loop_that_stood_while_redis_was_away_has_time_to_connect_anew(
    worker: Worker, pass_time: Callable[[float], None]
) -> None:
    worker.answers = False
    pass_time(LOOP_SILENCE_SECONDS + 1)
    worker.watchdog.look()
    worker.file.unlink()
    worker.answers = True
    pass_time(LOOP_SILENCE_SECONDS - 1)
    worker.watchdog.look()
    assert worker.live
    worker.file.unlink()
    pass_time(2)
    worker.watchdog.look()
    assert not worker.file.exists()


def test_a_turn_of_the_loop_keeps_the_worker_live(worker: Worker, pass_time: Callable[[float], None]) -> None:
    pass_time(LOOP_SILENCE_SECONDS + 1)
    worker.watchdog.loop_beat()
    worker.watchdog.look()
    assert worker.live


def test_a_mission_that_outlives_its_lease_ends_the_process(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.oldest = LEASE + OVERTIME_SECONDS + 1
    worker.watchdog.look()
    assert worker.exits == [EXIT_STUCK]
    assert "a mission has been in flight for 76 s, longer than its lease: ending the worker" in caplog.text
    assert not worker.file.exists()


def test_a_mission_within_its_lease_and_a_round_trip_ends_nothing(worker: Worker) -> None:
    worker.oldest = LEASE + OVERTIME_SECONDS - 1
    worker.watchdog.look()
    assert (worker.exits, worker.live) == ([], True)


def test_a_mission_that_waits_for_redis_ends_nothing_until_redis_was_back_for_a_while(
    worker: Worker, pass_time: Callable[[float], None]
) -> None:
    worker.oldest = 10 * LEASE
    worker.answers = False
    worker.watchdog.look()
    worker.answers = True
    pass_time(OVERTIME_SECONDS - 1)
    worker.watchdog.look()
    assert (worker.exits, worker.live) == ([], True)
    pass_time(2)
    worker.watchdog.look()
    assert worker.exits == [EXIT_STUCK]


def test_each_look_gives_the_next_one_as_long_as_a_mission_has(worker: Worker) -> None:
    worker.watchdog.look()
    worker.watchdog.look()
    assert worker.wound_up == [LEASE + OVERTIME_SECONDS] * 2


def test_a_native_call_that_keeps_the_gil_ends_the_process_and_only_that(tmp_path: Path) -> None:
    """While the watchdog runs, the process outlives the limit. It ends once no thread can run."""
    program = (
        "import ctypes, time\n"
        "from worker.work import watchdog\n"
        "from worker.observe.health import Heartbeat\n"
        "watchdog.OVERTIME_SECONDS, watchdog.INTERVAL_SECONDS = 1, 0.01\n"
        "watchdog.Watchdog(Heartbeat(None), lambda: 0, 1, lambda: True).start()\n"
        "time.sleep(3)\n"
        "print('holds it', flush=True)\n"
        "ctypes.PyDLL(None).sleep(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"holds it\n")
    assert b"Timeout" in ended.stderr


def test_it_goes_on_looking_after_the_worker_was_told_to_stop(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from worker.work import watchdog\n"
        "from worker.observe.health import Heartbeat\n"
        "watchdog.INTERVAL_SECONDS = 0.01\n"
        "started = time.monotonic()\n"
        "dog = watchdog.Watchdog(Heartbeat(None), lambda: (time.monotonic() - started) * 1000, 60, lambda: True)\n"
        "dog.start()\n"
        "dog.stop()\n"
        "time.sleep(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
    assert ended.returncode == EXIT_STUCK


def test_it_looks_by_itself_once_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "health"
    dog = Watchdog(Heartbeat(file), lambda: 0.0, LEASE, lambda: True, exit_after=lambda _: None)
    dog.start()
    wait_for(file.exists)
    assert is_ready(file, time.time(), 60)
