"""The process' memory: its limit, its worst case, and the order of waiting missions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from tests.conftest import wait_for
from worker.extract.apart import CHILD_BYTES
from worker.settings import WorkerSettings
from worker.work import cgroup, memory
from worker.work.memory import (
    BASE_BYTES,
    FREE_SECRETS,
    MIB,
    PACK_BYTES,
    RULES_BYTES,
    SLOT_BYTES,
    Memory,
    Share,
    largest,
    worst_case,
)

CHART = 1024 * MIB


@pytest.fixture(autouse=True)
def _no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)


@pytest.fixture
def waiters() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def sized(places: int, **values: Any) -> WorkerSettings:
    """Settings with room for `places` of the largest documents."""
    rough = WorkerSettings.from_env(concurrency=8, max_bytes=MIB, **values)
    return WorkerSettings.from_env(
        concurrency=8, max_bytes=MIB, memory=memory.fixed(rough) + places * largest(rough), **values
    )


def take(share: Share, seconds: float = 60.0) -> None:
    share.for_document(MIB, time.monotonic() + seconds)


def refusal(share: Share) -> Reason | None:
    try:
        take(share, 0.0)
    except MissionFailed as failure:
        return failure.reason if failure.retry_after else None
    return None


# The limit


@pytest.mark.parametrize(
    ("setting", "group", "limit"),
    [(None, None, CHART), (None, 5 * MIB, 5 * MIB), (6 * MIB, None, 6 * MIB), (6 * MIB, 5 * MIB, 5 * MIB)],
)
def test_a_setting_does_not_go_beyond_the_cgroup(
    setting: int | None, group: int | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "memory_limit", lambda: group)
    assert memory.limit(WorkerSettings.from_env(memory=setting)) == limit


# The worst case


def test_the_defaults_hold_under_the_charts_limit() -> None:
    settings = WorkerSettings.from_env()
    assert CHART - largest(settings) < worst_case(settings) <= CHART


def test_the_worst_case_counts_no_more_documents_than_fetches() -> None:
    settings = WorkerSettings.from_env(concurrency=2, memory=CHART)
    three = 3 * (SLOT_BYTES + largest(settings))  # with the urgent one
    assert worst_case(settings) == BASE_BYTES + CHILD_BYTES + 2 * RULES_BYTES + three


def test_rules_are_counted_for_the_worker_and_for_a_suspects_process() -> None:
    plain, rules, pack = (
        memory.fixed(WorkerSettings.from_env(**values))
        for values in ({"detectors": "marker"}, {}, {"rules": "acme.toml"})
    )
    assert (rules - plain, pack - rules) == (2 * RULES_BYTES, 2 * PACK_BYTES)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"memory": "512MiB", "concurrency": 64},
            "DECODER_MEMORY: 512MiB is the limit here, but 64 fetches, an urgent fetch and one document "
            "of 10MiB need 938MiB; raise it (and the cgroup's), or lower DECODER_CONCURRENCY to 10",
        ),
        (
            {"max_bytes": "100MiB"},
            "DECODER_MEMORY: 1GiB is the limit here, but 32 fetches, an urgent fetch and one document "
            "of 100MiB need 1402MiB; raise it (and the cgroup's), or lower DECODER_MAX_BYTES to 52MiB",
        ),
        (
            {"memory": "100MiB"},
            "DECODER_MEMORY: 100MiB is the limit here, but 32 fetches, an urgent fetch and one document "
            "of 10MiB need 682MiB; raise it (and the cgroup's)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_change(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Memory(WorkerSettings.from_env(**values))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("change", [{"concurrency": 10}, {"memory": "938MiB"}])
def test_what_the_refusal_asks_for_is_enough(change: dict[str, Any]) -> None:
    Memory(WorkerSettings.from_env(**({"memory": "512MiB", "concurrency": 64} | change)))


# The shares


def test_who_waits_gets_the_place_that_another_gives_back(waiters: ThreadPoolExecutor) -> None:
    room = Memory(sized(1))
    with room.share("a") as first:
        take(first)
        with room.share("b") as second:
            waiting = waiters.submit(take, second)
            wait_for(lambda: room._waiting)
            assert not waiting.done()
            first.give_back()
            waiting.result(30)


def test_a_place_comes_back_with_the_end_of_its_mission_however_that_ends() -> None:
    room = Memory(sized(1))
    for _ in range(3):
        with suppress(ZeroDivisionError), room.share("a") as share:
            take(share)
            raise ZeroDivisionError
    assert room._held == {}


def test_who_finds_no_room_in_time_is_waits_for() -> None:
    room = Memory(sized(1))
    with room.share("a") as first, room.share("b") as second:
        take(first)
        assert refusal(second) is Reason.MEMORY_BUSY
    with room.share("b") as third:
        take(third)


def test_nobody_waits_for_longer_than_a_fetch_slot_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.01)
    room = Memory(sized(1))
    with room.share("a") as first, room.share("b") as second:
        take(first)
        with pytest.raises(MissionFailed, match="memory_busy"):
            take(second, 3600.0)


def test_a_place_is_left_for_another_submitter() -> None:
    room = Memory(sized(3))
    with ExitStack() as stack:
        hers = [stack.enter_context(room.share("her")) for _ in range(3)]
        assert [refusal(share) for share in hers] == [None, None, Reason.MEMORY_BUSY]
        take(stack.enter_context(room.share("him")), 0.0)


def test_first_come_first_served_but_for_who_has_all_that_one_may_have(waiters: ThreadPoolExecutor) -> None:
    room, order = Memory(sized(2)), list[str]()

    def wait(share: Share, name: str) -> None:
        take(share)
        order.append(name)

    with ExitStack() as stack:

        def enter(submitter: str) -> Share:
            return stack.enter_context(room.share(submitter))

        a, b = enter("a"), enter("b")
        take(a)
        take(b)
        waiting: list[Future[None]] = []
        for name, submitter in (("a2", "a"), ("c", "c"), ("d", "d")):
            waiting.append(waiters.submit(wait, enter(submitter), name))
            wait_for(lambda: len(room._waiting) == len(waiting))
        b.give_back()  # `a` already has one of two places: `c` is next
        waiting[1].result(30)
        assert order == ["c"]
        a.give_back()
        waiting[0].result(30)
        assert order == ["c", "a2"]
        waiting[1].result()
        stack.close()
        waiting[2].result(30)


def test_a_small_one_does_not_overtake_a_large_one_for_ever(waiters: ThreadPoolExecutor) -> None:
    room = Memory(sized(3))
    with ExitStack() as stack:
        held = [stack.enter_context(room.share(submitter)) for submitter in "aabb"]
        for share in held:
            share.for_document(1024, time.monotonic())
        large, small = (stack.enter_context(room.share(submitter)) for submitter in "cd")
        first_in_line = waiters.submit(take, large)
        wait_for(lambda: room._waiting)
        assert largest(sized(3)) > room._free > held[0].size
        with pytest.raises(MissionFailed):
            small.for_document(1024, time.monotonic())
        held[0].give_back()
        first_in_line.result(30)


def test_a_share_is_taken_once_however_often_it_is_asked_for() -> None:
    room = Memory(sized(1))
    with room.share("a") as share:
        take(share)
        held = share.size
        take(share)
        share.for_document(1024, time.monotonic())
        share.for_secrets(10_000, time.monotonic())
        assert share.size == held


def test_a_second_try_that_needs_more_gives_back_what_the_first_one_had() -> None:
    room = Memory(sized(1))
    with room.share("a") as share:
        share.for_document(1024, time.monotonic())
        share.for_document(MIB, time.monotonic())
        assert share.size == largest(sized(1))


def test_few_secrets_fit_into_a_slot_and_many_take_a_place() -> None:
    room = Memory(sized(1))
    with room.share("a") as first, room.share("b") as second:
        take(first)
        second.for_secrets(FREE_SECRETS, time.monotonic())
        with pytest.raises(MissionFailed, match="memory_busy"):
            second.for_secrets(FREE_SECRETS + 1, time.monotonic())
