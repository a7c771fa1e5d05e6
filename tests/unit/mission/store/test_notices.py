"""Notices of a mission's end: a waiting client receives them at once, and finds the end later if it missed the notice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
import redis

import mission.client
from mission.audit.log import AuditLog
from mission.ids import new_mission_id
from mission.model import MissionStatus, Reason, State
from mission.operate import cancellation
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.changes import Admission, Commit
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import ENDED, entry_key
from mission.store.notices import MOST_IDLE, EndNotices
from producer import MissionClient
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

LONG = 30.0  # seconds between polls: a client without the notice is so slow that the test fails


@pytest.fixture
def hearing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make polling so rare that only the notice ends a wait."""
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", LONG)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reads of the ledger that are over, failed ones too."""
    found: list[str] = []
    statuses = Ledger.statuses

    def counted(self: Ledger, ids: Sequence[str]) -> list[MissionStatus | None]:
        try:
            return statuses(self, ids)
        finally:
            found.extend(ids)

    monkeypatch.setattr(Ledger, "statuses", counted)
    return found


@pytest.fixture
def mission_client(settings: WorkerSettings) -> MissionClient:
    return MissionClient(Settings.from_env(redis_url=settings.redis_url, url_key=generate_url_key()))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(200) as pool:
        yield pool


def admitted(ledger: Ledger, count: int = 1) -> list[str]:
    return [one.id for one in ledger.admit([Admission(new_mission_id(), b"u", 60) for _ in range(count)], "app")]


def end(ledger: Ledger, ids: list[str]) -> None:
    claims = claim_these(ledger, ids, len(ids), 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0) for claim in claims], 60)


def listeners(client: redis.Redis, ids: list[str]) -> int:
    return sum(count for _, count in client.pubsub_numsub(*(ENDED + id_ for id_ in ids)))


def wait_for_listeners(client: redis.Redis, ids: list[str]) -> None:
    wait_for(lambda: listeners(client, ids) == len(ids), what="who waits to listen")


Waiting = Callable[[str], "Future[MissionStatus]"]


@pytest.fixture
def waiting(mission_client: MissionClient, threads: ThreadPoolExecutor) -> Waiting:
    """A concurrent wait for a mission."""
    return lambda mission_id: threads.submit(mission_client.wait, mission_id, LONG)


@pytest.mark.usefixtures("hearing_alone")
def test_who_waits_looks_once_before_and_once_when_it_has_ended(
    ledger: Ledger, client: redis.Redis, waiting: Waiting, looks: list[str]
) -> None:
    ids = admitted(ledger)
    future = waiting(ids[0])
    wait_for(lambda: looks, what="the first look")
    end(ledger, ids)
    assert future.result(LONG / 2).state is State.SUCCEEDED
    assert looks == ids * 2
    wait_for(lambda: listeners(client, ids) == 0, what="the subscription to go")


def fail(ledger: Ledger, mission_id: str) -> None:
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.FAILED, Reason.DNS_FAILURE)], 60)


def die(ledger: Ledger, mission_id: str) -> None:
    ledger.client.hset(entry_key(mission_id), "expires_at", 1)
    claim_these(ledger, [mission_id], 1, 60)


def cancel(ledger: Ledger, mission_id: str) -> None:
    cancellation.cancel(
        ledger.client, Settings.from_env(), AuditLog(ledger.client, emit=lambda _: None), mission_id, why="x"
    )


@pytest.mark.usefixtures("hearing_alone")
@pytest.mark.parametrize(("how", "state"), [(fail, State.FAILED), (die, State.DEAD), (cancel, State.CANCELLED)])
def test_each_way_to_end_is_told(
    ledger: Ledger, waiting: Waiting, looks: list[str], how: Callable[[Ledger, str], None], state: State
) -> None:
    (mission_id,) = admitted(ledger)
    future = waiting(mission_id)
    wait_for(lambda: looks, what="the first look")
    how(ledger, mission_id)
    assert future.result(LONG / 2).state is state


@pytest.mark.usefixtures("hearing_alone")
def test_an_end_that_came_before_is_seen_at_the_first_look(
    ledger: Ledger, mission_client: MissionClient, looks: list[str]
) -> None:
    ids = admitted(ledger)
    end(ledger, ids)
    assert mission_client.wait(ids[0], LONG).state is State.SUCCEEDED
    assert looks == ids


@pytest.mark.usefixtures("hearing_alone")
def test_an_end_between_the_question_and_the_listening_is_not_missed(
    ledger: Ledger, mission_client: MissionClient, monkeypatch: pytest.MonkeyPatch, looks: list[str]
) -> None:
    """It subscribes first and reads then: in the other order, it would miss an end in between."""
    ids = admitted(ledger)
    statuses = Ledger.statuses

    def ends_at_once(self: Ledger, asked: Sequence[str]) -> list[MissionStatus | None]:
        found = statuses(self, asked)
        if len(looks) == 1:
            end(ledger, ids)
        return found

    monkeypatch.setattr(Ledger, "statuses", ends_at_once)
    assert mission_client.wait(ids[0], LONG).state is State.SUCCEEDED
    assert looks == ids * 2


def test_an_end_of_which_no_word_came_is_seen_all_the_same(
    ledger: Ledger, client: redis.Redis, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", 0.05)
    ids = admitted(ledger)
    future = waiting(ids[0])
    wait_for_listeners(client, ids)
    client.hset(entry_key(ids[0]), mapping={"state": "failed", "reason": "dns_failure", "finished_at": 1})
    assert future.result(LONG / 2).state is State.FAILED


@pytest.mark.usefixtures("hearing_alone")
def test_each_of_very_many_who_wait_hears_of_his_own(ledger: Ledger, client: redis.Redis, waiting: Waiting) -> None:
    """More waits than the 100 connections of redis-py's default pool."""
    ids = admitted(ledger, 150)
    futures = {id_: waiting(id_) for id_ in ids}
    wait_for_listeners(client, ids)
    end(ledger, ids[:75])
    assert {futures[id_].result(LONG / 2).state for id_ in ids[:75]} == {State.SUCCEEDED}
    assert not any(futures[id_].done() for id_ in ids[75:])
    end(ledger, ids[75:])
    assert {future.result(LONG / 2).state for future in futures.values()} == {State.SUCCEEDED}


@pytest.mark.server("fakeredis has no CLIENT LIST")
@pytest.mark.usefixtures("hearing_alone")
def test_after_very_many_have_waited_few_connections_are_kept(
    ledger: Ledger, client: redis.Redis, waiting: Waiting
) -> None:
    ids = admitted(ledger, 50)
    addresses = [one["id"] for one in client.client_list()]
    futures = [waiting(id_) for id_ in ids]
    wait_for_listeners(client, ids)
    end(ledger, ids)
    assert {future.result(LONG / 2).state for future in futures} == {State.SUCCEEDED}

    def kept() -> int:
        new = [one for one in client.client_list() if one["id"] not in addresses]
        return sum(one["cmd"] in ("subscribe", "unsubscribe") for one in new)

    wait_for(lambda: kept() <= MOST_IDLE, what="the connections to go")


def test_ctrl_c_leaves_no_subscription(
    ledger: Ledger, client: redis.Redis, mission_client: MissionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = admitted(ledger)
    heard: list[int] = []

    def interrupted(*_: object) -> MissionStatus:
        heard.append(listeners(client, ids))
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "statuses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mission_client.wait(ids[0], LONG)
    assert heard == [1]
    wait_for(lambda: listeners(client, ids) == 0, what="the subscription to go")


@pytest.mark.server("fakeredis has no CLIENT KILL")
@pytest.mark.usefixtures("hearing_alone")
def test_who_waits_listens_again_when_the_connection_was_lost(
    ledger: Ledger, client: redis.Redis, waiting: Waiting
) -> None:
    ids = admitted(ledger)
    future = waiting(ids[0])
    for _ in range(3):
        wait_for_listeners(client, ids)
        client.client_kill_filter(_type="pubsub")
    wait_for_listeners(client, ids)
    end(ledger, ids)
    assert future.result(LONG / 2).state is State.SUCCEEDED


@pytest.mark.server("the server is stopped and started")
@pytest.mark.usefixtures("hearing_alone")
def test_who_waits_is_still_there_when_redis_comes_back(
    ledger: Ledger, client: redis.Redis, waiting: Waiting, looks: list[str], redis_server: EmbeddedRedis
) -> None:
    ids = admitted(ledger)
    future = waiting(ids[0])
    wait_for_listeners(client, ids)
    redis_server.stop()
    before = len(looks)
    wait_for(lambda: len(looks) > before + 1, what="looks that fail")
    redis_server.start()
    wait_for_listeners(client, ids)
    end(ledger, ids)
    assert future.result(LONG / 2).state is State.SUCCEEDED


def test_while_redis_is_away_it_waits_no_longer_than_it_was_asked_to() -> None:
    nowhere = connect(Settings.from_env(redis_url="redis://127.0.0.1:1/0"))
    with nowhere, EndNotices(nowhere).of(new_mission_id()) as notice:
        asked = threading.Thread(target=notice.wait, args=(0.01,), daemon=True)
        asked.start()
        asked.join(LONG)
        assert not asked.is_alive()


def test_the_word_is_the_state_and_nothing_else(ledger: Ledger, client: redis.Redis) -> None:
    ids = admitted(ledger)
    with closing(client.pubsub()) as listening:  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        listening.subscribe(ENDED + ids[0])
        assert listening.get_message(timeout=LONG)["type"] == "subscribe"
        end(ledger, ids)
        assert listening.get_message(timeout=LONG)["data"] == b"succeeded"
