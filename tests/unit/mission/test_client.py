from __future__ import annotations

import json
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

pytestmark = pytest.mark.server("kombu's own connections")

URL = "https://docs.example.com/page?token=hidden"


@pytest.fixture
def producer_settings(settings: WorkerSettings) -> Settings:
    return Settings.from_env(redis_url=settings.redis_url, url_key=generate_url_key())


@pytest.fixture
def mission_client(producer_settings: Settings) -> MissionClient:
    return MissionClient(producer_settings)


def test_a_ticket_says_the_mission_is_queued(mission_client: MissionClient) -> None:
    ticket = mission_client.enqueue(URL)
    assert (ticket.state, ticket.duplicate) == (State.QUEUED, False)
    assert mission_client.status(ticket.id).state is State.QUEUED


def test_the_message_carries_the_id_and_nothing_of_the_url(mission_client: MissionClient, client: redis.Redis) -> None:
    ticket = mission_client.enqueue(URL)
    (message,) = client.lrange("missions", 0, -1)
    envelope = json.loads(message)
    assert envelope["headers"]["task"] == "decoder.decode"
    assert b"example" not in message
    assert b"hidden" not in message
    assert ticket.id not in envelope["headers"]["argsrepr"]


def test_bulk_enqueue_puts_sixteen_missions_on_a_message(mission_client: MissionClient, client: redis.Redis) -> None:
    verdicts = list(mission_client.enqueue_many(f"{URL}&n={n}" for n in range(40)))
    assert len({verdict.id for verdict in verdicts if isinstance(verdict, Ticket)}) == 40
    assert client.llen("missions") == 3


def test_bulk_enqueue_answers_for_each_url_in_order(mission_client: MissionClient) -> None:
    verdicts = list(mission_client.enqueue_many([URL, "not a url", URL]))
    assert isinstance(verdicts[0], Ticket)
    assert isinstance(verdicts[1], InvalidMission)
    assert isinstance(verdicts[2], Ticket)


def test_bulk_enqueue_takes_an_iterable_of_any_length_piece_by_piece(mission_client: MissionClient) -> None:
    taken = []

    def endless() -> object:
        while True:
            taken.append(1)
            yield URL

    verdicts = mission_client.enqueue_many(endless())  # type: ignore[arg-type]  # a generator typed for the test
    assert [isinstance(next(verdicts), Ticket) for _ in range(3)] == [True] * 3
    assert len(taken) < 1000


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", Reason.INVALID_URL),
        ("ftp://example.com/x", Reason.SCHEME_NOT_ALLOWED),
        ("https://user:pw@example.com/", Reason.CREDENTIALS_IN_URL),
        ("https://example.com/a b", Reason.INVALID_URL),
    ],
)
def test_a_bad_url_is_refused_with_its_reason_and_counted(
    mission_client: MissionClient, client: redis.Redis, url: str, reason: Reason
) -> None:
    with pytest.raises(InvalidMission) as refusal:
        mission_client.enqueue(url)
    assert refusal.value.reason is reason
    assert client.hgetall("{decoder}:refusals") == {reason.value.encode(): b"1"}
    assert mission_client.stats().queued == 0


def test_a_refusal_does_not_repeat_the_url(mission_client: MissionClient) -> None:
    with pytest.raises(InvalidMission) as refusal:
        mission_client.enqueue("https://user:pa55word@example.com/")
    assert "pa55word" not in str(refusal.value)
    assert "example" not in str(refusal.value)


def test_the_same_idempotency_key_gives_the_same_mission(mission_client: MissionClient) -> None:
    first = mission_client.enqueue(URL, idempotency_key="order-7")
    second = mission_client.enqueue(URL, idempotency_key="order-7")
    assert (second.id, second.duplicate) == (first.id, True)
    assert mission_client.stats().queued == 1


def test_the_same_idempotency_key_with_another_url_is_a_conflict(mission_client: MissionClient) -> None:
    mission_client.enqueue(URL, idempotency_key="order-7")
    with pytest.raises(IdempotencyConflict):
        mission_client.enqueue(URL + "&other", idempotency_key="order-7")


def test_the_same_idempotency_key_of_another_submitter_is_another_mission(mission_client: MissionClient) -> None:
    first = mission_client.enqueue(URL, idempotency_key="order-7", submitter="a")
    second = mission_client.enqueue(URL, idempotency_key="order-7", submitter="b")
    assert first.id != second.id


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


def test_a_batchs_key_outlives_a_rotation_of_the_url_key(producer_settings: Settings) -> None:
    (first,) = MissionClient(producer_settings).enqueue_many([URL], idempotency_key="night-1")
    assert producer_settings.url_key is not None
    keys = f"{generate_url_key()},{producer_settings.url_key.get_secret_value()}"
    rotated = MissionClient(Settings.from_env(redis_url=producer_settings.redis_url, url_key=keys))
    (again,) = rotated.enqueue_many([URL], idempotency_key="night-1")
    assert isinstance(first, Ticket)
    assert again == Ticket(first.id, State.QUEUED, duplicate=True)


def test_a_batchs_key_and_a_missions_key_do_not_meet(mission_client: MissionClient) -> None:
    mission_client.enqueue(URL, idempotency_key="order-7")
    (ticket,) = mission_client.enqueue_many([URL], idempotency_key="order-7")
    assert isinstance(ticket, Ticket)
    assert not ticket.duplicate


def test_a_batchs_key_that_is_none_is_refused(mission_client: MissionClient) -> None:
    with pytest.raises(InvalidMission, match="idempotency key"):
        list(mission_client.enqueue_many([URL], idempotency_key="x" * 257))


def test_an_idempotency_key_outlives_a_rotation_of_the_url_key(producer_settings: Settings) -> None:
    first = MissionClient(producer_settings).enqueue(URL, idempotency_key="order-7")
    assert producer_settings.url_key is not None
    both = f"{generate_url_key()},{producer_settings.url_key.get_secret_value()}"
    rotated = MissionClient(Settings.from_env(redis_url=producer_settings.redis_url, url_key=both))
    again = rotated.enqueue(URL, idempotency_key="order-7")
    assert (again.id, again.duplicate) == (first.id, True)
    with pytest.raises(IdempotencyConflict):
        rotated.enqueue(URL + "&other", idempotency_key="order-7")


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


def test_waiting_ends_with_the_time_given(mission_client: MissionClient) -> None:
    ticket = mission_client.enqueue(URL)
    assert mission_client.wait(ticket.id, timeout=0.05).state is State.QUEUED


def test_waiting_for_an_unknown_mission_is_an_error_at_once(mission_client: MissionClient) -> None:
    with pytest.raises(UnknownMission):
        mission_client.wait(new_mission_id(), timeout=60)


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


def test_waiting_ends_with_the_mission_also_in_a_state_of_a_newer_release(
    mission_client: MissionClient, client: redis.Redis
) -> None:
    ticket = mission_client.enqueue(URL)
    client.hset(entry_key(ticket.id), mapping={"state": "cancelled", "finished_at": "1700000000000"})
    assert mission_client.wait(ticket.id, timeout=60).state == "cancelled"


def test_a_duplicate_in_a_state_of_a_newer_release_is_a_ticket(
    mission_client: MissionClient, client: redis.Redis
) -> None:
    ticket = mission_client.enqueue(URL, idempotency_key="once")
    client.hset(entry_key(ticket.id), "state", "paused")
    assert mission_client.enqueue(URL, idempotency_key="once").as_dict() == {
        "id": ticket.id,
        "state": "paused",
        "duplicate": True,
    }
