"""The resolver: it returns in time whatever the look-up does, and asks once for all callers that wait."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from tests.conftest import wait_for
from worker.fetch import dns
from worker.fetch.dns import Resolver, system_lookup
from worker.fetch.wire import Unreached, Wait

LONG = Wait(30.0, cut_short=False)


class Lookup:
    """Gives scripted answers; hosts that start with `stuck` wait until `release` is set."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers or ("192.0.2.1",)
        self.release = threading.Event()
        self.asked: list[str] = []
        self.ports: list[int] = []
        self.stuck = 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        self.ports.append(port)
        if host.startswith("stuck"):
            self.stuck += 1
            self.release.wait()
        return self.answers


@pytest.fixture
def lookup() -> Iterator[Lookup]:
    lookup = Lookup()
    yield lookup
    lookup.release.set()


def failed(resolver: Resolver, host: str, wait: Wait = LONG) -> MissionFailed:
    with pytest.raises(MissionFailed) as caught:
        resolver.resolve(host, 443, wait)
    return caught.value


def failure(resolver: Resolver, host: str, timeout: float = LONG.seconds) -> Reason:
    return failed(resolver, host, Wait(timeout, cut_short=False)).reason


def test_gives_all_addresses_in_order_and_once() -> None:
    resolver = Resolver(Lookup("2606:4700::1", "1.1.1.1", "2606:4700::1", "1.0.0.1"))
    assert resolver.resolve("a.example", 443, LONG) == (
        IPv6Address("2606:4700::1"),
        IPv4Address("1.1.1.1"),
        IPv4Address("1.0.0.1"),
    )


def test_hands_the_port_to_the_lookup(lookup: Lookup) -> None:
    Resolver(lookup).resolve("good.example", 8443, LONG)
    assert lookup.ports == [8443]


def test_keeps_a_zone_so_that_the_policy_sees_it() -> None:
    (address,) = Resolver(Lookup("fe80::1%1")).resolve("a.example", 443, LONG)
    assert isinstance(address, IPv6Address)
    assert address.scope_id == "1"


@pytest.mark.parametrize("answer", [(), ("no address",), ("192.0.2.1", "")])
def test_no_good_answer_is_a_dns_failure(answer: tuple[str, ...]) -> None:
    assert failure(Resolver(lambda host, port: answer), "a.example") is Reason.DNS_FAILURE


@pytest.mark.parametrize("error", [OSError(), UnicodeError(), MemoryError(), RuntimeError("a.example"), KeyError(1)])
def test_whatever_the_lookup_raises_is_a_dns_failure_and_the_next_one_is_served(error: Exception) -> None:
    def lookup(host: str, port: int) -> list[str]:
        if host == "bad.example":
            raise error
        return ["192.0.2.1"]

    resolver = Resolver(lookup, threads=1)
    assert failure(resolver, "bad.example") is Reason.DNS_FAILURE
    assert resolver.resolve("good.example", 443, LONG) == (IPv4Address("192.0.2.1"),)


@pytest.mark.parametrize("timeout", [0.2, 0.0, -1.0])
def test_a_stuck_lookup_ends_in_time(lookup: Lookup, timeout: float) -> None:
    started = time.monotonic()
    assert failure(Resolver(lookup), "stuck.example", timeout) is Reason.DNS_FAILURE
    assert time.monotonic() - started < 5


def test_with_every_thread_stuck_it_still_ends_in_time_and_recovers(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=2)
    for host in ("stuck1.example", "stuck2.example"):
        assert failure(resolver, host, 0.05) is Reason.DNS_FAILURE
    wait_for(lambda: lookup.stuck == 2, what="both threads to be stuck")
    started = time.monotonic()
    assert failure(resolver, "good.example", 0.2) is Reason.DNS_FAILURE
    assert time.monotonic() - started < 5
    lookup.release.set()
    assert resolver.resolve("good.example", 443, LONG) == (IPv4Address("192.0.2.1"),)


def test_an_answer_without_an_address_is_the_names_own_fault_however_little_time_there_was() -> None:
    assert isinstance(failed(Resolver(lambda host, port: ()), "a.example", Wait(5.0, cut_short=True)), Unreached)


def test_a_name_that_had_its_whole_time_is_not_reached(lookup: Lookup) -> None:
    assert isinstance(failed(Resolver(lookup), "stuck.example", Wait(0.2, cut_short=False)), Unreached)


def test_a_lookup_that_is_cut_short_says_nothing_about_the_name(lookup: Lookup) -> None:
    failed_at = failed(Resolver(lookup), "stuck.example", Wait(0.2, cut_short=True))
    assert (failed_at.reason, isinstance(failed_at, Unreached)) == (Reason.DEADLINE_EXCEEDED, False)


def test_a_name_that_was_not_asked_for_since_others_hold_every_thread_is_not_at_fault(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=1)
    failure(resolver, "stuck.example", 0.05)
    wait_for(lambda: lookup.stuck == 1, what="the thread to be stuck")
    starved = failed(resolver, "good.example", Wait(0.2, cut_short=False))
    assert (starved.reason, isinstance(starved, Unreached)) == (Reason.DNS_FAILURE, False)


def test_a_question_that_nobody_waits_for_any_more_is_never_asked(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=1)
    failure(resolver, "stuck.example", 0.05)
    wait_for(lambda: lookup.stuck == 1, what="the thread to be stuck")
    failure(resolver, "gone.example", 0.05)
    lookup.release.set()
    resolver.resolve("good.example", 443, LONG)
    assert lookup.asked == ["stuck.example", "good.example"]


def test_one_stuck_host_takes_one_thread_however_many_wait_for_it(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=2)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(failure, resolver, "stuck.example", 0.2) for _ in range(8)]
        assert resolver.resolve("good.example", 443, LONG) == (IPv4Address("192.0.2.1"),)
        assert {future.result() for future in waiting} == {Reason.DNS_FAILURE}
    assert lookup.asked.count("stuck.example") == 1


def test_all_who_wait_share_one_answer(lookup: Lookup) -> None:
    resolver = Resolver(lookup)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(resolver.resolve, "stuck.example", 443, LONG) for _ in range(8)]
        wait_for(lambda: lookup.stuck, what="the look-up to begin")
        lookup.release.set()
        assert {future.result() for future in waiting} == {(IPv4Address("192.0.2.1"),)}
    assert lookup.asked == ["stuck.example"]


def test_looks_up_no_more_hosts_side_by_side_than_it_may(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=3)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(resolver.resolve, f"stuck{i}.example", 443, LONG) for i in range(8)]
        wait_for(lambda: lookup.stuck == 3 and len(resolver._queue) == 5, what="three under way and five in the queue")
        lookup.release.set()
        assert all(future.result() for future in waiting)
    assert sorted(lookup.asked) == [f"stuck{i}.example" for i in range(8)]


def test_a_fresh_answer_serves_again(lookup: Lookup) -> None:
    resolver = Resolver(lookup)
    assert resolver.resolve("a.example", 443, LONG) == resolver.resolve("a.example", 443, Wait(0, cut_short=True))
    assert lookup.asked == ["a.example"]


def test_an_answer_that_is_no_longer_fresh_is_asked_for_again(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "FRESH_SECONDS", 0.0)
    resolver = Resolver(lookup)
    resolver.resolve("a.example", 443, LONG)
    lookup.answers = ("192.0.2.2",)
    assert resolver.resolve("a.example", 443, LONG) == (IPv4Address("192.0.2.2"),)


def test_a_failure_is_not_kept() -> None:
    answers = iter([[], ["192.0.2.1"]])
    resolver = Resolver(lambda host, port: next(answers))
    assert failure(resolver, "a.example") is Reason.DNS_FAILURE
    assert resolver.resolve("a.example", 443, LONG) == (IPv4Address("192.0.2.1"),)


def test_remembers_a_bounded_number_of_answers(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MAX_REMEMBERED", 3)
    resolver = Resolver(lookup)
    for i in range(10):
        resolver.resolve(f"{i}.example", 443, LONG)
    assert list(resolver._fresh) == ["7.example", "8.example", "9.example"]


def test_holds_nothing_of_what_is_over(lookup: Lookup) -> None:
    resolver = Resolver(lookup, threads=1)
    for host in ("stuck.example", "a.example", "b.example"):
        failure(resolver, host, 0.02)
    lookup.release.set()
    wait_for(lambda: not resolver._asked, what="the stuck look-up to end")
    assert not resolver._queue


def test_idle_threads_end(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "IDLE_SECONDS", 0.01)
    resolver = Resolver(lookup)
    resolver.resolve("a.example", 443, LONG)
    wait_for(lambda: resolver._threads == 0, what="the idle thread to end")
    assert resolver.resolve("b.example", 443, LONG)


def test_without_another_thread_to_be_had_it_fails_in_time(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert failure(Resolver(lookup), "a.example", 0.05) is Reason.DNS_FAILURE


def test_a_stuck_lookup_does_not_hold_the_interpreter_back() -> None:
    code = """
import threading
from mission.errors import MissionFailed
from worker.fetch.dns import Resolver
from worker.fetch.wire import Wait
try:
    Resolver(lambda host, port: threading.Event().wait()).resolve("a.example", 443, Wait(0.1, False))
except MissionFailed as failure:
    print(failure.reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "dns_failure"


def test_the_system_knows_localhost() -> None:
    assert set(system_lookup("localhost", 443)) & {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "\ud800"])
def test_a_name_that_dns_cannot_hold_is_a_dns_failure(host: str) -> None:
    assert failure(Resolver(), host) is Reason.DNS_FAILURE
