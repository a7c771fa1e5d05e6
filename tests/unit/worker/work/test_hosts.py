from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis

from mission.errors import MissionFailed
from mission.model import Reason
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import PREFIX
from mission.url import parse_url
from worker.fetch.fetcher import HostUnreached
from worker.settings import WorkerSettings
from worker.work.hosts import (
    FAILURES_TO_PAUSE,
    MAX_WAIT_SECONDS,
    MIN_WAIT_SECONDS,
    PAUSE_SECONDS,
    SPREAD_SECONDS,
    Hosts,
)

URL = parse_url("https://docs.example.com/a")
OTHER = parse_url("https://other.example.com/a")


@pytest.fixture
def hosts(ledger: Ledger) -> Hosts:
    return Hosts(ledger, 2)


def fetch(hosts: Hosts, failure: MissionFailed | None = None) -> None:
    with hosts.slot(URL):
        if failure is not None:
            raise failure


def fail(hosts: Hosts, times: int) -> None:
    for _ in range(times):
        with pytest.raises(MissionFailed, match="connect_timeout"):
            fetch(hosts, HostUnreached(Reason.CONNECT_TIMEOUT, URL))


@contextmanager
def refused() -> Iterator[pytest.ExceptionInfo[MissionFailed]]:
    with pytest.raises(MissionFailed, match="host_paused") as info:
        yield info


def pause_is_over(client: redis.Redis, seconds_ago: int = 1) -> None:
    until = (client.time()[0] - seconds_ago) * 1000
    for host in client.hkeys(PREFIX + "hosts"):
        client.hset(PREFIX + "hosts", host, f"{FAILURES_TO_PAUSE} {until} {until}")


def teach_that_it_is_slow(hosts: Hosts) -> None:
    """As after fetches of ten minutes each."""
    fetch(hosts)
    for host in hosts._hosts.values():
        host.usual_seconds = 600.0


def test_no_more_than_the_limit_fetch_from_one_host_at_a_time(hosts: Hosts) -> None:
    teach_that_it_is_slow(hosts)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(hosts.slot(URL))
        with refused() as info:
            fetch(hosts)
        assert info.value.retry_after is not None
        assert info.value.retry_after >= MIN_WAIT_SECONDS
        with hosts.slot(OTHER):
            pass
    fetch(hosts)


def test_a_place_is_given_back_after_a_failure(hosts: Hosts) -> None:
    for _ in range(5):
        with pytest.raises(MissionFailed, match="http_client_error"):
            fetch(hosts, MissionFailed(Reason.HTTP_CLIENT_ERROR))
    fetch(hosts)


def test_a_mission_waits_for_a_place_that_comes_free_soon(hosts: Hosts) -> None:
    for _ in range(30):
        fetch(hosts)  # it learns that this host is fast
    with ExitStack() as stack:
        places = [stack.enter_context(ExitStack()) for _ in range(2)]
        for place in places:
            place.enter_context(hosts.slot(URL))
        threading.Timer(0.02, places[0].close).start()
        fetch(hosts)


def test_missions_that_find_a_host_busy_come_back_one_after_the_other(hosts: Hosts) -> None:
    waits = []
    fetch(hosts)
    for host in hosts._hosts.values():
        host.usual_seconds = 2.0
    with hosts.slot(URL), hosts.slot(URL):
        for _ in range(20):
            with refused() as info:
                fetch(hosts)
            waits.append(info.value.retry_after or 0.0)
    assert waits == sorted(waits)
    assert len(set(waits[1:])) == 19
    assert max(waits) <= MAX_WAIT_SECONDS


def test_a_thousand_waiting_missions_wait_no_longer_than_the_bound(hosts: Hosts) -> None:
    teach_that_it_is_slow(hosts)
    with hosts.slot(URL), hosts.slot(URL):
        for _ in range(1000):
            with refused() as info:
                fetch(hosts)
            assert MIN_WAIT_SECONDS <= (info.value.retry_after or 0.0) <= MAX_WAIT_SECONDS


def test_a_host_that_is_not_reached_again_and_again_is_paused_for_all_workers(hosts: Hosts, ledger: Ledger) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    other_worker = Hosts(ledger, 2)
    other_worker.refresh()
    with refused() as info:
        fetch(other_worker)
    assert 0 < (info.value.retry_after or 0.0) <= PAUSE_SECONDS + SPREAD_SECONDS <= 30


def test_a_pause_is_logged_once(hosts: Hosts, caplog: pytest.LogCaptureFixture) -> None:
    fail(hosts, FAILURES_TO_PAUSE - 1)
    assert caplog.messages == []
    fail(hosts, 1)
    assert caplog.messages == ["host paused for 20 s: it was not reached 5 times in a row"]


def test_the_worker_that_saw_the_last_failure_pauses_the_host_at_once(hosts: Hosts) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    with refused():
        fetch(hosts)


def test_a_few_failures_do_not_pause_a_host(hosts: Hosts) -> None:
    fail(hosts, FAILURES_TO_PAUSE - 1)
    hosts.refresh()
    fetch(hosts)


@pytest.mark.parametrize("refreshed", [True, False])
def test_an_answer_in_between_forgets_the_failures(hosts: Hosts, ledger: Ledger, *, refreshed: bool) -> None:
    for _ in range(3):
        fail(hosts, FAILURES_TO_PAUSE - 1)
        if refreshed:
            hosts.refresh()
        fetch(hosts)
    assert ledger.hosts() == {}


@pytest.mark.parametrize("reason", [Reason.HTTP_SERVER_ERROR, Reason.READ_TIMEOUT, Reason.BODY_TOO_LARGE])
def test_an_answer_of_any_kind_does_not_count_against_a_host(hosts: Hosts, reason: Reason) -> None:
    for _ in range(2 * FAILURES_TO_PAUSE):
        with pytest.raises(MissionFailed, match=reason):
            fetch(hosts, MissionFailed(reason))
    hosts.refresh()
    fetch(hosts)


def test_a_refusal_by_policy_says_nothing_about_a_host(hosts: Hosts, ledger: Ledger) -> None:
    fail(hosts, FAILURES_TO_PAUSE - 1)
    hosts.refresh()
    with pytest.raises(MissionFailed, match="blocked_address"):
        fetch(hosts, MissionFailed(Reason.BLOCKED_ADDRESS))
    assert len(ledger.hosts()) == 1


def test_after_the_pause_one_probe_goes_through_and_a_failure_pauses_again(hosts: Hosts, client: redis.Redis) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client)
    hosts.refresh()
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(MissionFailed, match="connect_timeout"))
        stack.enter_context(hosts.slot(URL))
        with refused():
            fetch(hosts)
        raise HostUnreached(Reason.CONNECT_TIMEOUT, URL)
    hosts.refresh()
    with refused():
        fetch(hosts)


def test_a_probe_that_reaches_the_host_opens_it_for_all(hosts: Hosts, client: redis.Redis, ledger: Ledger) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client)
    hosts.refresh()
    fetch(hosts)
    assert ledger.hosts() == {}
    fetch(hosts)


def test_a_host_not_heard_of_for_an_hour_is_forgotten(hosts: Hosts, client: redis.Redis, ledger: Ledger) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client, seconds_ago=2 * 3600)
    ledger.hosts()
    assert client.hlen(PREFIX + "hosts") == 0


def test_a_host_that_failed_once_and_was_never_paused_is_forgotten_as_well(
    hosts: Hosts, client: redis.Redis, ledger: Ledger
) -> None:
    fail(hosts, 1)
    for host in client.hkeys(PREFIX + "hosts"):
        client.hset(PREFIX + "hosts", host, f"1 0 {(client.time()[0] - 2 * 3600) * 1000}")
    ledger.hosts()
    assert client.hlen(PREFIX + "hosts") == 0


@pytest.mark.server("HRANDFIELD in a script")
def test_names_without_end_do_not_fill_the_ledger_and_leave_room_for_the_newest(ledger: Ledger) -> None:
    for n in range(1100):
        ledger.host_failed(f"name-{n}", FAILURES_TO_PAUSE, PAUSE_SECONDS)
    assert len(ledger.hosts()) == 1024
    assert "name-1099" in ledger.hosts()


def test_an_outage_of_the_ledger_does_not_change_why_a_fetch_failed() -> None:
    settings = WorkerSettings.from_env(redis_url="redis://127.0.0.1:1/0", redis_timeout=0.5)
    hosts = Hosts(Ledger(connect(settings), settings), 2)
    fail(hosts, FAILURES_TO_PAUSE + 1)
    fetch(hosts)
