"""The decoder's pieces as child processes of one command: its folder, its settings, its worker, its Flower."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args, get_origin

import worker.runtime  # noqa: F401 (a missing dependency of the worker is reported here, not in a child's log)
from mission.errors import DecoderError, InvalidMission
from mission.settings import PREFIX
from mission.url import MissionUrl, parse_url
from worker.fetch.policy import UrlPolicy
from worker.local.children import ENDING_SIGNALS, end_child, last_lines, start_child, undisturbed
from worker.settings import WorkerSettings

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
# Flower's own default keeps 100,000 tasks (420 MiB measured), counts killed workers as online forever, and offers to send tasks.
# The columns fit into a window of 1,500 pixels beside the name of a pod; a task's own page has the others. A worker's page
# waits for its heartbeat, which comes every two seconds.
FLOWER_OPTIONS = (
    "--max-tasks=20000",
    "--purge-offline-workers=300",
    "--read-only",
    "--inspect-timeout=6000",
    "--tasks-columns=uuid,state,result,received,worker",
)

# Settings that a local stack chooses itself; the environment cannot change them.
_OWN_SETTINGS = (
    *("redis_url", "redis_ca_file", "redis_cert_file", "redis_key_file", "redis_replicas"),
    *("url_key", "recipient", "recipients", "identity_file", "metrics_host", "metrics_port", "health_file"),
)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


# The type of each setting that names files or folders: a child runs in another folder, so it needs absolute paths.
_PATHS = {
    _variable(name): field.annotation
    for name, field in WorkerSettings.model_fields.items()
    if Path in get_args(field.annotation)
}


@dataclass(frozen=True, slots=True)
class Child:
    """A running part of the stack: its name, its process, and its log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Check that it still runs.

        Raises:
            DecoderError: it ended; the text contains its last log lines.
        """
        code = self.process.poll()
        if code is not None:
            lines = last_lines(self.log) or ["(no output)"]
            raise DecoderError(f"the {self.name} ended unexpectedly (exit code {code}); its last lines:", *lines)

    def wait_until(self, pattern: str) -> re.Match[str]:
        """Wait until its log matches a pattern.

        Raises:
            DecoderError: it ended first, or no line matched in time.
        """
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if found := re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace")):
                return found
            self.check()
            time.sleep(0.05)
        raise DecoderError(f"the {self.name} is not ready after {READY_SECONDS:g} s; its log: {self.log}")


def stack_settings(values: Mapping[str, str]) -> WorkerSettings:
    """The settings of a stack: those of the environment, except those that the stack chooses itself.

    Args:
        values: field name to text, as in the environment.

    Raises:
        SettingsError: the environment has an invalid value.
    """
    own = {name: WorkerSettings.model_fields[name].default for name in _OWN_SETTINGS}
    return WorkerSettings.from_env(**(own | dict(values)))


def stack_environment(values: Mapping[str, str]) -> dict[str, str]:
    """The same as environment variables for a child. It runs in another folder, so paths become absolute."""
    own = {_variable(name) for name in (*_OWN_SETTINGS, *values)}
    inherited = {name: value for name, value in os.environ.items() if name.upper() not in own}
    for name, value in inherited.items():
        if kind := _PATHS.get(name.upper()):
            paths = value.split(",") if get_origin(kind) is tuple else [value]
            inherited[name] = ",".join(os.path.abspath(path.strip()) for path in paths if path.strip())
    return inherited | {_variable(name): value for name, value in values.items()}


def access(urls: Sequence[str]) -> dict[str, str]:
    """The settings that let a worker reach these URLs, in addition to what the environment allows.

    They open loopback only for the addresses that a URL names.
    """
    settings = stack_settings({})
    policy = UrlPolicy.from_settings(settings)
    hosts = list(settings.allowed_hosts)
    schemes = list(settings.allowed_schemes)
    networks = [str(network) for network in settings.allowed_networks]
    for text in urls:
        with suppress(InvalidMission):  # enqueueing refuses it with its reason
            url = parse_url(text)
            # A new entry would hide the existing entry that allows the URL, with its credentials.
            if policy.opened_by(url) is None:
                hosts.append(f"{url.host}:{url.port}")
            schemes.append(url.scheme)
            networks += _loopback(url)
    values = {"allowed_hosts": hosts, "allowed_schemes": schemes, "allowed_networks": networks}
    return {name: ",".join(dict.fromkeys(items)) for name, items in values.items()}


def _loopback(url: MissionUrl) -> list[str]:
    if url.host == "localhost":
        return ["127.0.0.1/32", "::1/128"]
    if url.address is not None and url.address.is_loopback:
        return [str(ipaddress.ip_network(url.address))]
    return []


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does; a second signal does not interrupt the cleanup."""

    def end(_signal: int, _frame: object) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # An ignored signal stays ignored: `nohup` relies on it.
    handled = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    handled = {number: handler for number, handler in handled.items() if handler is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A private folder that is removed at the end."""
    with TemporaryDirectory(prefix="decoder-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running_worker(
    folder: Path,
    values: Mapping[str, str],
    *,
    name: str = "worker",
    processes: int = 1,
    grace: float = STOP_SECONDS,
) -> Iterator[Child]:
    """Run a worker with these settings (see `stack_environment`); it is killed `grace` seconds after SIGTERM.

    Its log is `NAME.log` in the folder.
    """
    command = [sys.executable, "-m", "worker", "worker", f"--processes={processes}"]
    with running(name, command, folder, stack_environment(values), grace) as child:
        yield child


@dataclass(frozen=True, slots=True)
class Flower:
    """A running Flower: its URL, and its generated login."""

    child: Child
    url: str
    login: str


@contextmanager
def running_flower(folder: Path, values: Mapping[str, str]) -> Iterator[Flower]:
    """Run Flower on loopback, with a password generated for this run."""
    login = f"decoder:{secrets.token_urlsafe(16)}"
    # In the environment: every user of this machine can read a process's arguments.
    env = stack_environment(values) | {"FLOWER_BASIC_AUTH": login}
    options = ["--address=127.0.0.1", "--port=0", *FLOWER_OPTIONS]
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower", *options]
    with running("flower", command, folder, env, STOP_SECONDS) as child:
        yield Flower(child, child.wait_until(r"http://127\.0\.0\.1:\d+")[0], login)


@contextmanager
def running(name: str, command: Sequence[str], folder: Path, env: Mapping[str, str], grace: float) -> Iterator[Child]:
    """Run a program until the block's end; it is killed `grace` seconds after SIGTERM. Its log is `NAME.log` in the folder."""
    log = folder / f"{name}.log"
    process = None
    try:
        with undisturbed():
            process = start_child(command, folder=folder, log=log, env=env)
        yield Child(name, process, log)
    finally:
        if process is not None:
            end_child(process, grace=grace)
