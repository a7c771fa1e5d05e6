"""`decoder worker --processes`: real processes, each with its own port, health file and core, under one parent."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mission.model import State, Ticket
from mission.operate.results import ResultReader
from producer import MissionClient
from tests.chaos.site import Site
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from worker.local.processes import core_of
from worker.local.stack import Child, stack_environment
from worker.observe.health import file_of, is_ready
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full


@pytest.fixture
def port() -> int:
    """A free port whose successor is free as well."""
    for _ in range(100):
        with ExitStack() as stack:
            first, second = (stack.enter_context(socket.socket()) for _ in range(2))
            first.bind(("127.0.0.1", 0))
            found: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", found + 1))
            except (OSError, OverflowError):
                continue
            return found
    pytest.fail("no two free ports side by side")


@pytest.fixture
def slow_site() -> Iterator[Site]:
    """A site slow enough for a test to see its missions while a worker holds them."""
    with Site(delay=0.3) as site:
        yield site


def enqueued(client: MissionClient, site: Site, numbers: range) -> dict[str, int]:
    tickets = client.enqueue_many(site.url(number) for number in numbers)
    return {ticket.id: number for ticket, number in zip(tickets, numbers, strict=True) if isinstance(ticket, Ticket)}


def succeeded(port: int) -> float:
    """How many missions a process reports as ended."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(number) for number in re.findall(r'decoder_missions_total\{.*outcome="succeeded".*\} (\S+)', text))


def children(worker: Child) -> list[int]:
    """The worker's processes, in the order of their start."""
    pid = worker.process.pid
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_two_processes_work_and_one_that_is_killed_comes_back_and_nothing_is_lost(
    mission_client: MissionClient,
    start_worker: StartWorker,
    slow_site: Site,
    reader: ResultReader,
    port: int,
    tmp_path: Path,
) -> None:
    health = tmp_path / "health"
    worker = start_worker(
        processes=2,
        allowed_hosts=slow_site.authority,
        metrics_port=str(port),
        health_file=str(health),
        deadline="1s",
        lease_seconds="16s",
        concurrency="4",
    )
    probe = [sys.executable, "-m", "worker.observe.health", str(health), "--ready"]
    wait_for(lambda: subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0, what="both")
    missions = enqueued(mission_client, slow_site, range(128))
    wait_for(lambda: min(succeeded(port), succeeded(port + 1)) > 0, what="missions that each of them has worked")

    first, second = children(worker)
    wait_for(lambda: mission_client.stats().running > 4, what="missions in the hands of both")
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: len(set(children(worker)) - {second}) == 2, what="the next one")
    missions |= enqueued(mission_client, slow_site, range(128, 192))
    states = {id_: mission_client.wait(id_, timeout=90).state for id_ in missions}
    assert set(states.values()) == {State.SUCCEEDED}
    assert all(
        [secret.value for secret in reader.reveal(id_, reason="test")] == [str(number)]
        for id_, number in list(missions.items())[::16]
    )
    assert children(worker)[0] == first
    wait_for(lambda: succeeded(port + 1) > 0, what="missions that the new one has worked, on the port of the old one")
    wait_for(lambda: is_ready(file_of(health, 1), time.time(), 10), what="its health")

    worker.process.terminate()
    assert worker.process.wait(40) == 0
    assert worker.log.read_text().count("shutting down: in-flight missions have 25 s") == 2


def test_each_is_bound_to_a_core_of_its_own_where_there_are_enough(start_worker: StartWorker) -> None:
    worker = start_worker(processes=2)
    bound = [os.sched_getaffinity(pid) for pid in children(worker)]
    expected = [core_of(number, 2) for number in range(2)]
    assert bound == [os.sched_getaffinity(0) if core is None else {core} for core in expected]


def test_where_there_are_too_few_cores_none_is_bound(start_worker: StartWorker) -> None:
    worker = start_worker(processes=len(os.sched_getaffinity(0)) + 1, concurrency="1")
    assert {frozenset(os.sched_getaffinity(pid)) for pid in children(worker)} == {frozenset(os.sched_getaffinity(0))}


def ended(settings: WorkerSettings, keys: Keys, **values: str) -> subprocess.CompletedProcess[str]:
    own = {
        "redis_url": settings.redis_url.get_secret_value(),
        "url_key": keys.url_key,
        "recipient": keys.identity.recipient.text,
        "metrics_port": "0",
        "metrics_host": "127.0.0.1",
    }
    command = [sys.executable, "-m", "worker", "worker", "--processes=2"]
    return subprocess.run(
        command, env=stack_environment(own | values), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", "none"),  # detected before there are several processes
        ("metrics_port", "65535"),
        ("recipient", "decoder-recipient:nonsense"),  # detected by each process
        ("memory", "200MiB"),
    ],
)
def test_bad_settings_end_all_with_2_and_nothing_is_started_anew(
    name: str, value: str, settings: WorkerSettings, keys: Keys
) -> None:
    found = ended(settings, keys, **{name: value})
    assert found.returncode == 2
    assert f"error: DECODER_{name.upper()}: " in found.stderr
    assert "anew" not in found.stdout


def test_a_port_that_another_has_ends_all(settings: WorkerSettings, keys: Keys, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        found = ended(settings, keys, metrics_port=str(port))
    assert (found.returncode, f"DECODER_METRICS_PORT: got {port + 1}" in found.stderr) == (2, True)
