from __future__ import annotations

import threading
from typing import cast

import pytest
import redis

from mission.batch import CHUNK
from mission.errors import (
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    QueueFull,
    QuotaExceeded,
    SettingsError,
    UnknownBatch,
    UnknownMission,
    WaitTimeout,
)
from mission.ids import new_mission_id
from mission.model import MissionStatus, Reason, State, Ticket
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.changes import Commit
from mission.store.ledger import Ledger
from mission.store.names import entry_key
from mission.store.scripts import Scripts
from producer import MissionClient
from tests.claims import claim_these
from worker.settings import WorkerSettings

URL = "https://docs.example.com/page?token=hidden"


@pytest.fixture
def producer_settings(settings: WorkerSettings) -> Settings:
    return Settings.from_env(redis_url=settings.redis_url, url_key=generate_url_key())


@pytest.fixture
def mission_client(producer_settings: Settings) -> MissionClient:
    return MissionClient(producer_settings)


def test_a_ticket_says_the_mission_is_queued_and_waiting_says_that_the_time_ran_out(
    mission_client: MissionClient,
) -> None:
    ticket = mission_client.enqueue(URL)
    assert (ticket.state, ticket.duplicate) == (State.QUEUED, False)
    with pytest.raises(WaitTimeout, match=r"the time ran out: 1 mission not finished after 0.05s \(1 queued\)") as info:
        mission_client.wait(ticket.id, timeout=0.05)
    assert isinstance(info.value, TimeoutError)
    assert info.value.statuses == [mission_client.status(ticket.id)]


def test_a_batch_takes_urls_a_piece_at_a_time_and_keeps_none(mission_client: MissionClient) -> None:
    batch = mission_client.batch()
    for n in range(3):
        verdicts = batch.add(f"{URL}&{n}-{m}" for m in range(300))
        assert len({verdict.id for verdict in verdicts if isinstance(verdict, Ticket)}) == 300
    assert (batch.accepted, batch.duplicates, len(batch)) == (900, 0, 0)
    assert len(set(mission_client.missions_of(batch.id))) == mission_client.stats().queued == 900


def test_enqueue_many_enqueues_where_nobody_looks_at_what_it_returns(mission_client: MissionClient) -> None:
    mission_client.enqueue_many([URL])
    assert mission_client.stats().queued == 1


def test_a_batch_gives_each_verdict_in_order_and_counts_them(mission_client: MissionClient) -> None:
    first = mission_client.enqueue(URL, idempotency_key="k")
    urls = [URL, "no url", *(f"{URL}&{n}" for n in range(600)), "ftp://docs.example.com/"]
    batch = mission_client.enqueue_many(urls, idempotency_key="k")
    assert (batch.accepted, batch.duplicates) == (600, 1)
    assert batch.refused == {Reason.INVALID_URL: 1, Reason.SCHEME_NOT_ALLOWED: 1}
    assert batch.verdicts[0] == next(iter(batch)) == Ticket(first.id, State.QUEUED, duplicate=True)
    assert [str(verdict) for verdict in batch if isinstance(verdict, InvalidMission)] == [
        str(batch.verdicts[1]),
        str(batch.verdicts[-1]),
    ]
    assert len(batch) == len(urls)
    tickets = [verdict for verdict in batch if isinstance(verdict, Ticket)]
    assert [mission_client.status(ticket.id).state for ticket in tickets[-3:]] == [State.QUEUED] * 3
    assert set(mission_client.missions_of(batch.id)) == {ticket.id for ticket in tickets}


def test_a_batch_has_a_priority_and_its_tickets_tell_that_of_each(mission_client: MissionClient) -> None:
    mission_client.enqueue(URL, idempotency_key="k", priority="low")
    batch = mission_client.enqueue_many([URL, f"{URL}&2"], idempotency_key="k", priority="high")
    tickets = [verdict for verdict in batch if isinstance(verdict, Ticket)]
    assert [(ticket.duplicate, ticket.priority) for ticket in tickets] == [(True, "low"), (False, "high")]
    stats = mission_client.stats()
    assert (stats.queued_high, stats.queued_normal, stats.queued_low) == (1, 0, 1)


def test_the_same_key_is_the_same_batch_and_another_submitters_is_not(mission_client: MissionClient) -> None:
    ids = [
        mission_client.enqueue_many([URL], idempotency_key=key, submitter=submitter).id
        for key, submitter in (("night-1", "a"), ("night-1", "a"), ("night-2", "a"), ("night-1", "b"))
    ]
    assert (ids[0], len(set(ids))) == (ids[1], 3)
    assert mission_client.enqueue_many([URL]).id != mission_client.enqueue_many([URL]).id


def test_waiting_for_a_batch_ends_with_how_its_missions_ended(
    mission_client: MissionClient, ledger: Ledger, settings: WorkerSettings
) -> None:
    batch = mission_client.enqueue_many(f"{URL}&{n}" for n in range(600))
    ids = list(mission_client.missions_of(batch.id))
    claims = claim_these(ledger, ids, 600, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0) for claim in claims[:599]], 60)
    with pytest.raises(WaitTimeout, match=r"1 mission not finished after 0.05s \(1 running\)"):
        batch.wait(0.05)
    timer = threading.Timer(
        0.2, ledger.commit, ([Commit(claims[599].id, claims[599].token, State.FAILED, Reason.TLS_FAILURE)], 60)
    )
    timer.start()
    assert batch.wait(60) == {State.SUCCEEDED: 599, State.FAILED: 1}
    timer.join()
    Scripts(ledger.client).run("forget", ids[0])
    assert batch.wait(60).total() == 599, "one that was forgotten is waited for by nobody"


def test_options_that_are_none_are_refused_in_words_before_anything_is_enqueued(mission_client: MissionClient) -> None:
    for refused in (
        lambda: mission_client.enqueue_many(URL),
        lambda: mission_client.batch().add(URL),
        lambda: mission_client.enqueue_many([URL], idempotency_key=7),  # type: ignore[arg-type]  # what a caller may do
        lambda: mission_client.enqueue_many([URL], submitter=None),  # type: ignore[arg-type]  # as above
        lambda: mission_client.batch(idempotency_key=""),
        lambda: mission_client.enqueue(URL, exclusive=True),
        lambda: list(mission_client.statuses(new_mission_id())),
    ):
        with pytest.raises(InvalidMission, match="malformed_message: "):
            refused()
    assert mission_client.stats().queued == 0


def test_a_batch_that_nobody_enqueued_is_unknown(mission_client: MissionClient) -> None:
    with pytest.raises(UnknownBatch, match="no batch"):
        mission_client.wait_for_batch(new_mission_id(), 60)
    with pytest.raises(InvalidMission):
        mission_client.missions_of("x")


def test_missions_are_told_as_they_finish_each_once(mission_client: MissionClient, ledger: Ledger) -> None:
    ids = [mission_client.enqueue(f"{URL}&{n}").id for n in range(3)]
    told = mission_client.follow([*ids, ids[0]], 60)
    for mission_id in reversed(ids):
        (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
        ledger.commit([Commit(mission_id, claim.token, State.SUCCEEDED, None, 0)], 60)
        assert next(told).id == mission_id
    assert list(told) == []


def test_those_that_ended_are_told_behind_any_number_that_do_not_end(
    mission_client: MissionClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.client._LOOK_SECONDS", 0.02)
    batch = mission_client.enqueue_many(f"{URL}&{n}" for n in range(2 * CHUNK + 10))
    ids = [verdict.id for verdict in batch if isinstance(verdict, Ticket)]
    claims = claim_these(ledger, ids[-10:], 10, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0) for claim in claims], 60)
    told = mission_client.follow(ids, 60)
    assert {next(told).id for _ in range(10)} == set(ids[-10:])


def test_who_waits_through_an_outage_is_told_what_was_known_before(
    mission_client: MissionClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mission.client._LOOK_SECONDS", 0.02)
    ticket = mission_client.enqueue(URL)
    answers = [ledger.statuses([ticket.id])]

    def first_alone(*_: object) -> list[MissionStatus | None]:
        if answers:
            return answers.pop()
        raise LedgerUnavailable

    monkeypatch.setattr(Ledger, "statuses", first_alone)
    with pytest.raises(WaitTimeout, match="1 queued"):
        mission_client.wait(ticket.id, timeout=0.2)
    with pytest.raises(LedgerUnavailable):
        mission_client.wait(ticket.id, timeout=0.1)


def test_who_follows_missions_needs_no_url_key_and_who_enqueues_is_told_which(settings: WorkerSettings) -> None:
    client = MissionClient(Settings.from_env(redis_url=settings.redis_url))
    assert client.stats().queued == 0
    with pytest.raises(UnknownMission):
        client.status(new_mission_id())
    for enqueue in (client.enqueue, client.enqueue_many):
        with pytest.raises(SettingsError, match="DECODER_URL_KEY: not set"):
            enqueue(URL, idempotency_key="k")
    with pytest.raises(SettingsError, match="DECODER_URL_KEY"):
        MissionClient(Settings.from_env(redis_url=settings.redis_url, url_key="no key"))


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


def test_a_key_and_a_url_are_one_mission_alone_and_in_a_batch_also_after_a_rotation_of_the_url_key(
    producer_settings: Settings,
) -> None:
    before = MissionClient(producer_settings)
    assert producer_settings.url_key is not None
    both = f"{generate_url_key()},{producer_settings.url_key.get_secret_value()}"
    rotated = MissionClient(Settings.from_env(redis_url=producer_settings.redis_url, url_key=both))
    first = before.enqueue(URL, idempotency_key="order-7")
    of_batch, other = before.enqueue_many([URL, URL + "&other"], idempotency_key="order-7")
    assert of_batch == Ticket(first.id, State.QUEUED, duplicate=True)
    assert isinstance(other, Ticket)
    for client in (before, rotated):
        for url, ticket in ((URL, first), (URL + "&other", other)):
            known = Ticket(ticket.id, State.QUEUED, duplicate=True)
            assert client.enqueue(url, idempotency_key="order-7") == known
            assert list(client.enqueue_many([url], idempotency_key="order-7")) == [known]
    fresh = (before.enqueue(URL, idempotency_key="order-7", submitter="b"), before.enqueue(URL, idempotency_key="8"))
    assert not any(ticket.duplicate for ticket in fresh)


def test_a_key_that_is_exclusive_refuses_another_url_and_is_no_bar_to_a_batch(mission_client: MissionClient) -> None:
    first = mission_client.enqueue(URL, idempotency_key="order-7", exclusive=True)
    known = Ticket(first.id, State.QUEUED, duplicate=True)
    for exclusive in (True, False):
        assert mission_client.enqueue(URL, idempotency_key="order-7", exclusive=exclusive) == known
        with pytest.raises(IdempotencyConflict):
            mission_client.enqueue(URL + "&other", idempotency_key="order-7", exclusive=exclusive)
    again, other = mission_client.enqueue_many([URL, URL + "&other"], idempotency_key="order-7")
    assert again == known
    assert isinstance(other, Ticket)
    assert not other.duplicate


def test_a_full_queue_is_said_to_be_full(producer_settings: Settings) -> None:
    client = MissionClient(producer_settings.model_copy(update={"queue_limit": 1}))
    client.enqueue(URL)
    with pytest.raises(QueueFull, match="1 unfinished missions"):
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
    list(mission_client.follow([tickets[0].id], timeout=0.01))
    before = client.info("stats")["total_connections_received"]
    for ticket in tickets:
        assert [status.state for status in mission_client.follow([ticket.id], timeout=0.01)] == [State.QUEUED]
        mission_client.enqueue(URL)
    assert client.info("stats")["total_connections_received"] == before


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
    client.hset(entry_key(ticket.id), mapping={"state": "archived", "finished_at": "1700000000000"})
    assert mission_client.wait(ticket.id, timeout=60).state == "archived"
    again = mission_client.enqueue(URL, idempotency_key="once").as_dict()
    assert again == {"id": ticket.id, "state": "archived", "duplicate": True, "priority": "normal"}
