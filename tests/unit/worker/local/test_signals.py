"""What ends a command: signals, at any moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import processes_in, started
from worker.local.signals import ending_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_and_a_second_one_lets_it_clean_up(tmp_path: Path, number: signal.Signals) -> None:
    program = f"""
import os, time
from worker.local.signals import ending_on_signals
from worker.local.stack import temporary_folder
with ending_on_signals():
    try:
        with temporary_folder() as folder:
            print(folder, flush=True)
            while True:  # a signal just before a sleep does not cut it short
                time.sleep(0.05)
    except KeyboardInterrupt:
        os.kill(os.getpid(), {int(number)})
        print(folder.exists(), flush=True)
"""
    with started([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(number)
        assert process.stdout.readline() == "False\n"
        assert process.wait(60) == 0


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with ending_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_on_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("piece", ["EmbeddedRedis(folder)", 'running("child", ["/bin/sleep", "60"], folder, {}, 5.0)'])
def test_a_signal_in_the_moment_of_a_childs_start_leaves_no_child(tmp_path: Path, piece: str) -> None:
    program = f"""
import os, signal, subprocess, sys
from pathlib import Path
from worker.local.embedded import EmbeddedRedis
from worker.local.signals import ending_on_signals
from worker.local.stack import running

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        os.kill(os.getpid(), signal.SIGTERM)  # nobody but this object knows the child yet

subprocess.Popen = Popen
folder = Path(sys.argv[1])
with ending_on_signals():
    try:
        with {piece}:
            print("went on", flush=True)
    except KeyboardInterrupt:
        print("ended", flush=True)
        sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"
        assert processes_in(tmp_path) == []
