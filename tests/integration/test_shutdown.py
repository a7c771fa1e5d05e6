"""SIGTERM: in-flight missions are finished or released within the grace period, whatever hangs and however often the signal comes."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import SecretStr

from mission.model import State
from producer import MissionClient
from tests.chaos.site import STUCK, Site
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from worker.observe.health import is_live, is_ready
from worker.runtime import Runtime
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

# How far a worker may exceed its grace period on a busy machine.
MARGIN_SECONDS = 15.0


@pytest.fixture
def slow_site() -> Iterator[Site]:
    """A site that answers after a second and a half."""
    with Site(delay=1.5) as site:
        yield site


def wait_until_running(client: MissionClient, *ids: str) -> None:
    wait_for(lambda: all(client.status(id_).state is State.RUNNING for id_ in ids), what="the missions to be in hand")


def test_what_ends_within_the_grace_period_is_finished(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    worker = start_worker(allowed_hosts=slow_site.authority)
    ids = [mission_client.enqueue(slow_site.url(n)).id for n in range(3)]
    wait_until_running(mission_client, *ids)
    worker.process.terminate()
    assert worker.process.wait(25 + MARGIN_SECONDS) == 0
    assert [(s.state, s.attempts) for s in map(mission_client.status, ids)] == [(State.SUCCEEDED, 1)] * 3


def test_a_thread_that_is_stuck_in_a_read_holds_the_end_up_no_longer_than_the_grace_period(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    worker = start_worker(allowed_hosts=slow_site.authority, shutdown_grace="2s")
    ticket = mission_client.enqueue(slow_site.url(1, STUCK))
    wait_until_running(mission_client, ticket.id)
    worker.process.terminate()
    assert worker.process.wait(2 + MARGIN_SECONDS) == 0


def test_what_is_given_back_has_lost_no_attempt_and_goes_on_at_once_elsewhere(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    worker = start_worker(allowed_hosts=slow_site.authority, shutdown_grace="1s", max_attempts="1")
    slow_site.delay = 20.0
    ticket = mission_client.enqueue(slow_site.url(1))
    wait_until_running(mission_client, ticket.id)
    worker.process.terminate()
    worker.process.wait(1 + MARGIN_SECONDS)
    status = mission_client.status(ticket.id)
    assert (status.state, status.attempts) == (State.RETRYING, 0)
    slow_site.delay = 0.0
    start_worker(allowed_hosts=slow_site.authority, max_attempts="1")
    assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED


def test_any_number_of_signals_ends_it_once(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    worker = start_worker(allowed_hosts=slow_site.authority, shutdown_grace="2s")
    ticket = mission_client.enqueue(slow_site.url(1, STUCK))
    wait_until_running(mission_client, ticket.id)
    for turn in range(300):
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(turn % 10 * 0.00002)  # so that the next signal arrives while this one is handled
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    assert worker.process.wait(2 + MARGIN_SECONDS) == 0
    assert mission_client.status(ticket.id).attempts == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_any_ending_signal_ends_it_in_order_and_every_line_of_its_log_is_json(
    number: signal.Signals, start_worker: StartWorker
) -> None:
    worker = start_worker()
    worker.process.send_signal(number)
    assert worker.process.wait(MARGIN_SECONDS) == 0
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert "shutting down: in-flight missions have 25 s" in [line["message"] for line in lines]


def test_no_signal_makes_it_print_what_its_threads_hold(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    """Celery prints the local variables of all threads on SIGUSR1."""
    worker = start_worker(allowed_hosts=slow_site.authority)
    wait_until_running(mission_client, mission_client.enqueue(slow_site.url(1, STUCK)).id)
    worker.process.send_signal(signal.SIGUSR1)
    wait_until_running(mission_client, mission_client.enqueue(slow_site.url(2, STUCK)).id)
    assert worker.process.poll() is None
    assert slow_site.authority not in worker.log.read_text()


@pytest.mark.timeout(30)  # without the guard it hangs forever
def test_a_second_signal_that_interrupts_the_handling_of_the_first_is_harmless(
    settings: WorkerSettings, keys: Keys
) -> None:
    keyed = {"url_key": SecretStr(keys.url_key), "recipient": keys.identity.recipient.text}
    runtime = Runtime.build(settings.model_copy(update=keyed))
    tracer = sys.gettrace()

    def interrupt(_frame: FrameType, _event: str, _argument: object) -> Any:
        """The second signal arrives at each line of Python that handles the first: on top of it, in the same thread."""
        sys.settrace(tracer)
        runtime.stop(2.0)
        sys.settrace(interrupt)
        return interrupt

    sys.settrace(interrupt)
    runtime.stop(1.0)
    sys.settrace(tracer)
    ended = [runtime.ending.get(timeout=1) for _ in range(runtime.ending.qsize())]
    assert set(ended) == {1.0, 2.0}


def test_a_worker_that_ends_is_alive_and_not_ready(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site, tmp_path: Path
) -> None:
    health = tmp_path / "health"
    worker = start_worker(allowed_hosts=slow_site.authority, health_file=str(health))
    wait_for(lambda: is_ready(health, time.time(), 10), what="the worker to be ready")
    ticket = mission_client.enqueue(slow_site.url(1, STUCK))
    wait_until_running(mission_client, ticket.id)
    worker.process.terminate()
    wait_for(lambda: not is_ready(health, time.time(), 10), what="the worker to be no longer ready")
    assert is_live(health, time.time(), 10)
    worker.process.kill()


def test_nothing_is_claimed_after_the_signal(
    mission_client: MissionClient, start_worker: StartWorker, slow_site: Site
) -> None:
    worker = start_worker(allowed_hosts=slow_site.authority, concurrency="1", host_concurrency="1")
    tickets = [
        ticket.id for ticket in mission_client.enqueue_many(slow_site.url(n) for n in range(4)) if hasattr(ticket, "id")
    ]
    wait_for(lambda: mission_client.stats().running == 1, what="the first mission")
    worker.process.terminate()
    assert worker.process.wait(25 + MARGIN_SECONDS) == 0
    states = sorted(mission_client.status(id_).state for id_ in tickets)
    assert states == ["queued", "queued", "queued", "succeeded"]
