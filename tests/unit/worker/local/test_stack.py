"""The pieces of a stack: settings, signals, child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mission.errors import DecoderError, SettingsError
from tests.processes import processes_in, started
from worker.local.children import end_child, last_lines, start_child, undisturbed
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import (
    Child,
    access,
    ending_on_signals,
    stack_environment,
    stack_settings,
    temporary_folder,
)


def start(tmp_path: Path, program: str, *, stdin: bytes = b"") -> Child:
    log = tmp_path / "child.log"
    env = {"PATH": os.defpath, "GREETING": "ahoy"}
    process = start_child([sys.executable, "-c", program], folder=tmp_path, log=log, env=env, stdin=stdin)
    return Child("child", process, log)


# Settings


def test_a_stack_takes_from_the_environment_what_it_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_DEADLINE", "7s")
    assert stack_settings({}).deadline == 7


@pytest.mark.parametrize("name", ["redis_url", "url_key", "recipient", "recipients", "identity_file", "redis_ca_file"])
def test_a_stack_does_not_take_its_own_settings_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"DECODER_{name.upper()}", "redis://elsewhere.example/0")
    inherited, environment = stack_settings({}), stack_environment({})
    monkeypatch.delenv(f"DECODER_{name.upper()}")
    assert inherited == stack_settings({})
    assert f"DECODER_{name.upper()}" not in environment


def test_what_a_stack_decides_wins_over_any_spelling_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("decoder_allowed_hosts", "elsewhere.example")
    env = stack_environment({"allowed_hosts": "here.example"})
    assert {name: value for name, value in env.items() if name.upper() == "DECODER_ALLOWED_HOSTS"} == {
        "DECODER_ALLOWED_HOSTS": "here.example"
    }


@pytest.mark.parametrize(
    ("name", "value", "passed_on"),
    [
        ("DECODER_RULES", "here", "{folder}/here"),
        ("decoder_ca_file", "one, of a kind", "{folder}/one, of a kind"),
        ("DECODER_RULES_CACHE", "", ""),
        ("DECODER_RULES", "team.toml, /etc/rules.yml,", "{folder}/team.toml,/etc/rules.yml"),
    ],
)
def test_a_stack_takes_files_and_folders_from_where_it_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, passed_on: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    assert stack_environment({})[name] == passed_on.format(folder=tmp_path)


def test_a_childs_environment_is_not_judged_before_the_child_reads_it() -> None:
    assert stack_environment({"lease_seconds": "none"})["DECODER_LEASE_SECONDS"] == "none"


def test_settings_and_environment_of_a_stack_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = access(["http://127.0.0.1:8080/x"]) | {"redis_url": "redis://:word@127.0.0.1:7000/0", "metrics_port": "0"}
    settings, env = stack_settings(values), stack_environment(values)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert type(settings).from_env() == settings


def test_a_bad_value_in_the_environment_stops_a_stack_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_DEADLINE", "soon")
    with pytest.raises(SettingsError, match="DECODER_DEADLINE: got 'soon'"):
        access([])


# Access


def test_a_url_opens_its_host_port_and_scheme() -> None:
    assert access(["http://docs.example.com/a", "https://Docs.Example.com:8443/b?c"]) == {
        "allowed_hosts": "docs.example.com:80,docs.example.com:8443",
        "allowed_schemes": "https,http",
        "allowed_networks": "",
    }


def test_what_the_environment_allows_stays_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "*.example.org")
    monkeypatch.setenv("DECODER_ALLOWED_NETWORKS", "10.1.0.0/16")
    assert access(["https://docs.example.com/a"]) == {
        "allowed_hosts": "*.example.org,docs.example.com:443",
        "allowed_schemes": "https",
        "allowed_networks": "10.1.0.0/16",
    }


def test_a_url_that_the_environment_allows_stays_with_its_entry_which_may_have_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "docs.example.com,*.example.org:8443")
    urls = ["https://docs.example.com/a", "https://a.example.org:8443/", "https://docs.example.com:8443/"]
    assert access(urls)["allowed_hosts"] == "docs.example.com,*.example.org:8443,docs.example.com:8443"


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("http://127.0.0.1:8080/", "127.0.0.1/32"),
        ("http://127.7.7.7/", "127.7.7.7/32"),
        ("http://[::1]:8080/", "::1/128"),
        ("http://localhost:8080/", "127.0.0.1/32,::1/128"),
        ("http://10.0.0.1/", ""),
        ("http://169.254.169.254/", ""),
        ("http://localhost.example.com/", ""),
    ],
)
def test_loopback_is_opened_for_exactly_the_address_that_a_url_names(url: str, networks: str) -> None:
    assert access([url])["allowed_networks"] == networks


def test_a_url_that_is_none_opens_nothing() -> None:
    assert access(["http://user:word@127.0.0.1/", "nonsense"]) == access([])


# Child processes


def test_a_child_gets_its_input_environment_and_folder(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.stdin.read(), os.environ.get('HOME'), os.environ['GREETING'], os.getcwd())"
    child = start(tmp_path, program, stdin=b"word")
    assert child.process.wait(60) == 0
    assert last_lines(child.log) == [f"word None ahoy {tmp_path}"]


def test_a_child_leaves_no_core_dump_and_no_file_for_others_and_ctrl_c_in_a_terminal_does_not_reach_it(
    tmp_path: Path,
) -> None:
    program = "import os, resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0], oct(os.umask(0)), os.getsid(0) == os.getpid())"
    child = start(tmp_path, program)
    child.process.wait(60)
    assert last_lines(child.log) == ["0 0o77 True"]


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    child = start(tmp_path, program)
    child.wait_until("deaf")
    end_child(child.process, grace=0.1)
    assert child.process.returncode == -signal.SIGKILL


def test_a_child_that_ended_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    child = start(tmp_path, "import sys; sys.exit('no room on the ship')")
    child.process.wait(60)
    with pytest.raises(DecoderError, match=r"the child ended unexpectedly \(exit code 1\)") as error:
        child.check()
    assert error.value.more == ("no room on the ship",)


def test_waiting_for_a_line_ends_when_the_child_does(tmp_path: Path) -> None:
    child = start(tmp_path, "print('something else')")
    with pytest.raises(DecoderError, match="ended unexpectedly"):
        child.wait_until("never said")


def test_waiting_for_a_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.local.stack.READY_SECONDS", 0.2)
    child = start(tmp_path, "import time; time.sleep(600)")
    try:
        with pytest.raises(DecoderError, match=r"not ready after 0\.2 s"):
            child.wait_until("never said")
    finally:
        end_child(child.process, grace=10)


# Ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_and_a_second_one_lets_it_clean_up(tmp_path: Path, number: signal.Signals) -> None:
    program = f"""
import os, time
from worker.local.stack import ending_on_signals, temporary_folder
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


@pytest.mark.parametrize("block", [ending_on_signals, undisturbed])
def test_a_signal_that_was_ignored_stays_so(block: Callable[[], AbstractContextManager[None]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with block():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("piece", ["EmbeddedRedis(folder)", 'running("child", ["/bin/sleep", "60"], folder, {}, 5.0)'])
def test_a_signal_in_the_moment_of_a_childs_start_leaves_no_child(tmp_path: Path, piece: str) -> None:
    program = f"""
import os, signal, subprocess, sys
from pathlib import Path
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import ending_on_signals, running

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        os.kill(os.getpid(), signal.SIGTERM)  # only this object knows the child so far

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


def test_another_thread_may_start_a_child(tmp_path: Path) -> None:
    """Only the main thread handles signals, so other threads cannot hold them back and need not."""
    with ThreadPoolExecutor(1) as thread, EmbeddedRedis(tmp_path) as server:
        server.kill()
        thread.submit(server.start).result(60)
        assert server.pid


def test_a_temporary_folder_is_private_and_gone_at_the_end() -> None:
    with temporary_folder() as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
