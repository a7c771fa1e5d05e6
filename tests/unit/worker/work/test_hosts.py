from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue

import pytest
import redis

from mission.errors import MissionFailed
from mission.model import Reason
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, Key
from mission.url import MissionUrl, parse_url
from tests.conftest import wait_for
from worker.fetch.fetcher import Reach
from worker.settings import WorkerSettings
from worker.work import hosts as module
from worker.work.hosts import (
    FAILURES_TO_PAUSE,
    MAX_WAIT_SECONDS,
    MIN_WAIT_SECONDS,
    PAUSE_SECONDS,
    WAY_OUT,
    Hosts,
    PutOff,
    name_of,
)

URL = parse_url("https://docs.example.com/a")
OTHER = parse_url("https://other.example.com/a")


@pytest.fixture
def hosts(ledger: Ledger) -> Hosts:
    return Hosts(ledger, 2)


def fetch(hosts: Hosts, reach: Reach = Reach.REACHED, *, submitter: str = "app", url: MissionUrl = URL) -> None:
    with hosts.slot(url, submitter) as visit:
        visit.reach = reach


def fail(hosts: Hosts, times: int, submitter: str = "app") -> None:
    for _ in range(times):
        fetch(hosts, Reach.UNREACHED, submitter=submitter)


@contextmanager
def refused(reason: Reason = Reason.HOST_PAUSED) -> Iterator[pytest.ExceptionInfo[PutOff]]:
    with pytest.raises(PutOff, match=reason) as info:
        yield info


def pause_is_over(client: redis.Redis, seconds_ago: int = 1, *, of: str = "") -> None:
    until = (client.time()[0] - seconds_ago) * 1000
    for host in [of] if of else client.hkeys(PREFIX + "hosts"):
        client.hset(PREFIX + "hosts", host, f"{FAILURES_TO_PAUSE} {until} {until} 0 0 *")


def teach_that_it_is_slow(hosts: Hosts) -> None:
    """The state after fetches of ten minutes each."""
    fetch(hosts)
    for host in hosts._hosts.values():
        host.usual_seconds = 600.0


def test_no_more_than_the_limit_fetch_from_one_host_at_a_time(hosts: Hosts) -> None:
    teach_that_it_is_slow(hosts)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(hosts.slot(URL, "app"))
        with refused(Reason.HOST_BUSY) as info:
            fetch(hosts)
        assert info.value.retry_after is not None
        assert info.value.retry_after >= MIN_WAIT_SECONDS
        with hosts.slot(OTHER, "app"):
            pass
    fetch(hosts)


def test_a_place_is_given_back_after_a_failure(hosts: Hosts) -> None:
    for _ in range(5):
        with pytest.raises(MissionFailed, match="http_client_error"), hosts.slot(URL, "app"):
            raise MissionFailed(Reason.HTTP_CLIENT_ERROR)
    fetch(hosts)


def test_a_mission_waits_for_a_place_that_comes_free_soon(hosts: Hosts) -> None:
    for _ in range(30):
        fetch(hosts)  # it learns that this host is fast
    with ExitStack() as stack:
        places = [stack.enter_context(ExitStack()) for _ in range(2)]
        for place in places:
            place.enter_context(hosts.slot(URL, "app"))
        threading.Timer(0.02, places[0].close).start()
        fetch(hosts)


class Waiters:
    """Missions that wait for a slot at a host. A mission that gets one notes it in `entered`, and leaves when `may_leave` is set."""

    def __init__(self, hosts: Hosts, threads: ThreadPoolExecutor) -> None:
        fetch(hosts)  # it learns that this host is fast
        (self._host,) = hosts._hosts.values()
        self._hosts, self._threads = hosts, threads
        self.entered = SimpleQueue[str]()
        self.may_leave = threading.Event()

    def add(self, *, urgent: bool) -> None:
        line = self._host.urgent if urgent else self._host.others
        before = line.waiting
        self._threads.submit(self._fetch, urgent=urgent)
        wait_for(lambda: line.waiting == before + 1)

    def _fetch(self, *, urgent: bool) -> None:
        with self._hosts.slot(URL, "app", urgent=urgent):
            self.entered.put("urgent" if urgent else "other")
            assert self.may_leave.wait(30)


@pytest.fixture
def waiters(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiters]:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 30.0)
    with ThreadPoolExecutor(5) as threads:
        waiters = Waiters(hosts, threads)
        yield waiters
        waiters.may_leave.set()


def test_an_urgent_mission_goes_before_those_that_wait_and_then_they_take_turns(hosts: Hosts, waiters: Waiters) -> None:
    with hosts.slot(URL, "app"):
        with hosts.slot(URL, "app"):
            for urgent in (False, False, True, True, True):
                waiters.add(urgent=urgent)
            waiters.may_leave.set()
        entered = [waiters.entered.get(timeout=10) for _ in range(5)]
    assert entered == ["urgent", "other", "urgent", "other", "urgent"]


def test_of_two_places_that_come_free_at_once_both_lines_have_one(hosts: Hosts, waiters: Waiters) -> None:
    with hosts.slot(URL, "app"), hosts.slot(URL, "app"):
        waiters.add(urgent=False)
        waiters.add(urgent=True)
    assert {waiters.entered.get(timeout=10) for _ in range(2)} == {"urgent", "other"}


def test_an_urgent_mission_that_finds_no_place_comes_back_before_the_others(hosts: Hosts) -> None:
    waits = []
    fetch(hosts)
    for host in hosts._hosts.values():
        host.usual_seconds = 2.0
    with hosts.slot(URL, "app"), hosts.slot(URL, "app"):
        for urgent in [False] * 20 + [True] * 2:
            with refused(Reason.HOST_BUSY) as info, hosts.slot(URL, "app", urgent=urgent):
                pass
            waits.append(info.value.retry_after or 0.0)
    assert waits[-2] < waits[-1] < waits[5] < waits[-3]


def test_missions_that_find_a_host_busy_come_back_one_after_the_other(hosts: Hosts) -> None:
    waits = []
    fetch(hosts)
    for host in hosts._hosts.values():
        host.usual_seconds = 2.0
    with hosts.slot(URL, "app"), hosts.slot(URL, "app"):
        for _ in range(20):
            with refused(Reason.HOST_BUSY) as info:
                fetch(hosts)
            waits.append(info.value.retry_after or 0.0)
    assert waits == sorted(waits)
    assert len(set(waits[1:])) == 19
    assert max(waits) <= MAX_WAIT_SECONDS


def test_a_thousand_waiting_missions_wait_no_longer_than_the_bound(hosts: Hosts) -> None:
    teach_that_it_is_slow(hosts)
    with hosts.slot(URL, "app"), hosts.slot(URL, "app"):
        for _ in range(1000):
            with refused(Reason.HOST_BUSY) as info:
                fetch(hosts)
            assert MIN_WAIT_SECONDS <= (info.value.retry_after or 0.0) <= MAX_WAIT_SECONDS


def test_a_host_that_is_not_reached_again_and_again_is_paused_for_all_workers(hosts: Hosts, ledger: Ledger) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    other_worker = Hosts(ledger, 2)
    other_worker.refresh()
    with refused() as info:
        fetch(other_worker)
    assert (info.value.host, info.value.retry_after) == (name_of(URL), 0.0)


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


def test_what_says_nothing_about_a_host_neither_counts_against_it_nor_forgets_what_was_counted(
    hosts: Hosts, ledger: Ledger
) -> None:
    for _ in range(2 * FAILURES_TO_PAUSE):
        fetch(hosts, Reach.UNKNOWN)
    assert ledger.hosts() == {}
    fail(hosts, FAILURES_TO_PAUSE - 1)
    hosts.refresh()
    fetch(hosts, Reach.UNKNOWN)
    fail(hosts, 1)
    with refused():
        fetch(hosts)


def test_a_host_that_somebody_reached_of_late_is_not_paused_by_one_submitter_alone(hosts: Hosts) -> None:
    fail(hosts, 1, "stranger")
    fetch(hosts)
    fail(hosts, 3 * FAILURES_TO_PAUSE, "stranger")
    hosts.refresh()
    fetch(hosts, Reach.UNKNOWN)
    fail(hosts, 1, "app")
    with refused():
        fetch(hosts)


def test_a_host_that_nobody_reaches_any_more_is_paused_also_where_one_submitter_alone_needs_it(
    hosts: Hosts, client: redis.Redis
) -> None:
    fail(hosts, 1)
    fetch(hosts)
    for host in client.hkeys(Key.HOSTS):
        client.hset(Key.HOSTS, host, f"0 0 {(client.time()[0] - 31) * 1000} {(client.time()[0] - 31) * 1000} 0 -")
    fail(hosts, FAILURES_TO_PAUSE)
    with refused():
        fetch(hosts)


@pytest.mark.parametrize("other", ["http://docs.example.com/a", "https://docs.example.com:8443/a"])
def test_each_scheme_and_port_of_a_host_is_counted_by_itself(hosts: Hosts, other: str) -> None:
    for _ in range(FAILURES_TO_PAUSE):
        fetch(hosts, Reach.UNREACHED, url=parse_url(other))
    hosts.refresh()
    fetch(hosts)


def test_a_clock_that_runs_back_makes_no_pause_longer(hosts: Hosts, ledger: Ledger, client: redis.Redis) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client, seconds_ago=-3600)
    hosts.refresh()
    fetch(hosts)
    assert ledger.hosts() == {}


def test_a_probe_that_learns_nothing_lets_another_one_go_at_once(hosts: Hosts, client: redis.Redis) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client)
    hosts.refresh()
    fetch(hosts, Reach.UNKNOWN)
    fetch(hosts)
    fetch(hosts)


def test_after_the_pause_one_probe_goes_through_and_a_failure_pauses_again(hosts: Hosts, client: redis.Redis) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    pause_is_over(client)
    hosts.refresh()
    with hosts.slot(URL, "app") as visit:
        with refused():
            fetch(hosts)
        visit.reach = Reach.UNREACHED
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


# The egress proxy.


def find_no_way_out(hosts: Hosts, times: int = FAILURES_TO_PAUSE) -> None:
    for number in range(times):
        with hosts.slot(parse_url(f"https://host-{number}.example.com/"), "app") as visit:
            visit.way_out = Reach.UNREACHED


def test_without_a_way_out_missions_for_all_hosts_are_put_off_and_no_host_is_paused(
    hosts: Hosts, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    find_no_way_out(hosts)
    for url in (URL, OTHER):
        with refused(Reason.PROXY_FAILED) as info:
            fetch(hosts, url=url)
        assert (info.value.host, info.value.retry_after) == (WAY_OUT, 0.0)
    assert ledger.hosts().keys() == {WAY_OUT}
    assert caplog.messages == ["egress proxy paused for 20 s: it was not reached 5 times in a row"]


def test_whoever_finds_the_way_out_again_opens_it_for_all(hosts: Hosts, client: redis.Redis, ledger: Ledger) -> None:
    find_no_way_out(hosts)
    pause_is_over(client)
    hosts.refresh()
    with hosts.slot(URL, "app") as visit:
        with refused(Reason.PROXY_FAILED):
            fetch(hosts, url=OTHER)
        visit.reach, visit.way_out = Reach.UNREACHED, Reach.REACHED  # the proxy says that the host is down
    fetch(hosts, url=OTHER)
    assert ledger.hosts().keys() == {name_of(URL)}


def test_a_probe_of_the_way_out_that_is_put_off_by_its_host_lets_another_one_go(
    hosts: Hosts, client: redis.Redis
) -> None:
    fail(hosts, FAILURES_TO_PAUSE)
    find_no_way_out(hosts)
    pause_is_over(client, of=WAY_OUT)
    hosts.refresh()
    with refused(Reason.HOST_PAUSED):
        fetch(hosts)
    fetch(hosts, url=OTHER)


def test_an_answer_in_between_forgets_that_the_way_out_failed(hosts: Hosts) -> None:
    for _ in range(3):
        find_no_way_out(hosts, FAILURES_TO_PAUSE - 1)
        with hosts.slot(URL, "app") as visit:
            visit.reach = visit.way_out = Reach.REACHED
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
        client.hset(PREFIX + "hosts", host, f"1 0 {(client.time()[0] - 2 * 3600) * 1000} 0 0 -")
    ledger.hosts()
    assert client.hlen(PREFIX + "hosts") == 0


def test_nobody_pauses_a_host_for_more_than_an_hour(ledger: Ledger) -> None:
    ledger.host_failed("dead", "app", 1, 365 * 86_400.0)
    assert 3590 < ledger.hosts()["dead"] <= 3600


def test_a_host_that_is_fetched_from_is_not_forgotten_however_many_others_come(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.work.hosts._MAX_HOSTS", 1)
    teach_that_it_is_slow(hosts)
    with hosts.slot(URL, "app"), hosts.slot(URL, "app"):
        fetch(hosts, url=OTHER)
        with refused(Reason.HOST_BUSY):
            fetch(hosts)


@pytest.mark.server("HRANDFIELD in a script")
def test_names_without_end_do_not_fill_the_ledger_and_leave_room_for_the_newest(ledger: Ledger) -> None:
    for n in range(1100):
        ledger.host_failed(f"name-{n}", "app", FAILURES_TO_PAUSE, PAUSE_SECONDS)
    assert len(ledger.hosts()) == 1024
    assert "name-1099" in ledger.hosts()


@pytest.mark.server("HRANDFIELD in a script")
@pytest.mark.parametrize(
    ("submitter", "threshold"),
    [pytest.param("stranger", 1, id="of others"), pytest.param("app", FAILURES_TO_PAUSE, id="that are paused")],
)
def test_who_names_hosts_without_end_forgets_his_own_and_not_the_dead_hosts_of_others(
    ledger: Ledger, submitter: str, threshold: int
) -> None:
    dead = [f"dead-{n}" for n in range(50)]
    for host in dead * FAILURES_TO_PAUSE:
        ledger.host_failed(host, "app", FAILURES_TO_PAUSE, PAUSE_SECONDS)
    for n in range(2500):
        ledger.host_failed(f"name-{n}", submitter, threshold, PAUSE_SECONDS)
    assert set(dead) <= ledger.hosts().keys()


def test_an_outage_of_the_ledger_does_not_change_why_a_fetch_failed() -> None:
    settings = WorkerSettings.from_env(redis_url="redis://127.0.0.1:1/0", redis_timeout=0.5)
    hosts = Hosts(Ledger(connect(settings), settings), 2)
    fail(hosts, FAILURES_TO_PAUSE + 1)
    fetch(hosts)
