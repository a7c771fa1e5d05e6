from __future__ import annotations

from typing import cast

import pytest
import redis

from mission.errors import (
    IdempotencyConflict,
    InvalidMission,
    QueueFull,
    QuotaExceeded,
    SettingsError,
    UnknownMission,
)
from mission.ids import new_mission_id
from mission.model import Reason, State, Ticket
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.names import entry_key
from producer import MissionClient
from worker.settings import WorkerSettings

URL = "https://docs.example.com/page?token=hidden"


@pytest.fixture
def producer_settings(settings: WorkerSettings) -> Settings:
    return Settings.from_env(redis_url=settings.redis_url, url_key=generate_url_key())


@pytest.fixture
def mission_client(producer_settings: Settings) -> MissionClient:
    return MissionClient(producer_settings)


def test_a_ticket_says_the_mission_is_queued_and_waiting_ends_with_its_time(mission_client: MissionClient) -> None:
    ticket = mission_client.enqueue(URL)
    assert (ticket.state, ticket.duplicate) == (State.QUEUED, False)
    assert mission_client.wait(ticket.id, timeout=0.05) == mission_client.status(ticket.id)


def test_bulk_enqueue_takes_an_iterable_of_any_length_piece_by_piece(mission_client: MissionClient) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield URL

    verdicts = mission_client.enqueue_many(endless())  # type: ignore[arg-type]  # a generator typed for the test
    assert [isinstance(next(verdicts), Ticket) for _ in range(3)] == [True] * 3
    assert len(taken) < 1000


def test_a_bad_url_is_refused_with_its_reason(mission_client: MissionClient) -> None:
    with pytest.raises(InvalidMission) as refusal:
        mission_client.enqueue("https://user:pw@example.com/")
    assert refusal.value.reason is Reason.CREDENTIALS_IN_URL
    assert mission_client.stats().queued == 0


def test_under_one_key_each_url_of_a_batch_is_one_mission(mission_client: MissionClient, client: redis.Redis) -> None:
    urls = [f"{URL}&n={n}" for n in range(300)]

    def enqueue(urls: list[str], key: str, submitter: str = "a") -> list[Ticket]:
        return cast("list[Ticket]", list(mission_client.enqueue_many(urls, idempotency_key=key, submitter=submitter)))

    half = enqueue(urls[:150], "night-1")
    whole = enqueue([*urls, urls[0].replace("https", "HTTPS")], "night-1")
    assert [ticket.duplicate for ticket in whole] == [True] * 150 + [False] * 150 + [True]
    assert [ticket.id for ticket in whole[:150]] == [ticket.id for ticket in half]
    assert len({ticket.id for ticket in whole}) == mission_client.stats().queued == 300
    others = enqueue(urls[:1], "night-2") + enqueue(urls[:1], "night-1", "b")
    assert not any(ticket.duplicate for ticket in others)
    assert mission_client.stats().queued == 302
    assert client.llen("missions") == 10 + 10 + 2  # no message for what was there before


def test_an_idempotency_key_stands_for_one_mission_also_after_a_rotation_of_the_url_key(
    producer_settings: Settings,
) -> None:
    before = MissionClient(producer_settings)
    assert producer_settings.url_key is not None
    both = f"{generate_url_key()},{producer_settings.url_key.get_secret_value()}"
    rotated = MissionClient(Settings.from_env(redis_url=producer_settings.redis_url, url_key=both))
    first = before.enqueue(URL, idempotency_key="order-7")
    of_batch, other = before.enqueue_many([URL, URL + "&other"], idempotency_key="order-7")
    assert len({first, of_batch, other, before.enqueue(URL, idempotency_key="order-7", submitter="b")}) == 4
    for client in (before, rotated):
        assert client.enqueue(URL, idempotency_key="order-7") == Ticket(first.id, State.QUEUED, duplicate=True)
        (again,) = client.enqueue_many([URL], idempotency_key="order-7")
        assert isinstance(of_batch, Ticket)
        assert again == Ticket(of_batch.id, State.QUEUED, duplicate=True)
        with pytest.raises(IdempotencyConflict):
            client.enqueue(URL + "&other", idempotency_key="order-7")


def test_a_full_queue_is_said_to_be_full(producer_settings: Settings) -> None:
    client = MissionClient(producer_settings.model_copy(update={"queue_limit": 1}))
    client.enqueue(URL)
    with pytest.raises(QueueFull, match="1 missions are waiting"):
        client.enqueue(URL)


def test_a_used_up_quota_says_when_to_come_back(producer_settings: Settings) -> None:
    client = MissionClient(producer_settings.model_copy(update={"quota": "1/minute"}))
    client.enqueue(URL)
    with pytest.raises(QuotaExceeded) as refusal:
        client.enqueue(URL)
    assert 50 < refusal.value.retry_after <= 60


def test_waiting_for_an_unknown_mission_is_an_error_at_once(mission_client: MissionClient) -> None:
    with pytest.raises(UnknownMission):
        mission_client.wait(new_mission_id(), timeout=60)


@pytest.mark.server("INFO")
def test_who_waits_again_takes_the_connection_that_is_there(mission_client: MissionClient, client: redis.Redis) -> None:
    tickets = [mission_client.enqueue(f"{URL}&{n}") for n in range(4)]
    mission_client.wait(tickets[0].id, timeout=0.01)
    before = client.info("stats")["total_connections_received"]
    for ticket in tickets:
        assert mission_client.wait(ticket.id, timeout=0.01).state is State.QUEUED
        mission_client.enqueue(URL)
    assert client.info("stats")["total_connections_received"] == before


def test_without_a_url_key_there_is_no_client(settings: WorkerSettings) -> None:
    with pytest.raises(SettingsError, match="DECODER_URL_KEY: not set"):
        MissionClient(Settings.from_env(redis_url=settings.redis_url))


def test_a_mission_admitted_while_the_broker_refuses_messages_is_accepted_all_the_same(
    mission_client: MissionClient, client: redis.Redis
) -> None:
    client.set("missions", "a string where the queue should be")
    ticket = mission_client.enqueue(URL)
    assert mission_client.status(ticket.id).state is State.QUEUED


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "0F8FAD5B-D9CB-469F-A165-70867728950E", "a" * 36])
def test_what_is_no_mission_id_is_refused(mission_client: MissionClient, text: str) -> None:
    for ask in (mission_client.status, lambda text: mission_client.wait(text, timeout=60)):
        with pytest.raises(InvalidMission, match="malformed_message"):
            ask(text)


def test_a_mission_in_a_state_of_a_newer_release_is_a_duplicate_and_ends_the_waiting(
    mission_client: MissionClient, client: redis.Redis
) -> None:
    ticket = mission_client.enqueue(URL, idempotency_key="once")
    client.hset(entry_key(ticket.id), mapping={"state": "cancelled", "finished_at": "1700000000000"})
    assert mission_client.wait(ticket.id, timeout=60).state == "cancelled"
    again = mission_client.enqueue(URL, idempotency_key="once").as_dict()
    assert again == {"id": ticket.id, "state": "cancelled", "duplicate": True}
