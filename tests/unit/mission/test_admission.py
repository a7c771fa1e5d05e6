"""Admission: refusals before the ledger, the ledger's answers as verdicts, and the messages that are sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
import redis

from mission.admission import Admitter
from mission.errors import (
    DecoderError,
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    QuotaExceeded,
    StoredQuotaExceeded,
)
from mission.ids import new_mission_id
from mission.model import Priority, Reason, Ticket
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.settings import Settings
from mission.store.changes import Admission, Admitted
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import QUEUE, Key, entry_key
from tests.queue_entries import arguments
from worker.settings import WorkerSettings

URL = "https://docs.example/page?signature=sesame"
BAD = "https://user:sesame@docs.example/"


@pytest.fixture
def keyring() -> UrlKeyring:
    return UrlKeyring.parse(generate_url_key())


@pytest.fixture
def admitter(ledger: Ledger, keyring: UrlKeyring, settings: WorkerSettings) -> Admitter:
    return Admitter(ledger, keyring, settings)


@pytest.fixture
def away(keyring: UrlKeyring) -> Admitter:
    """An admitter whose Redis is unavailable."""
    settings = Settings.from_env(redis_url="redis://127.0.0.1:1/0", redis_timeout=1)
    return Admitter(Ledger(connect(settings), settings), keyring, settings)


def test_each_url_gets_a_ticket_or_a_refusal_in_order(admitter: Admitter) -> None:
    verdicts = admitter.admit([URL, BAD, "ftp://docs.example/", URL])
    assert [type(verdict) for verdict in verdicts] == [Ticket, InvalidMission, InvalidMission, Ticket]
    assert [cast("DecoderError", verdict).reason for verdict in verdicts[1:3]] == [
        Reason.CREDENTIALS_IN_URL,
        Reason.SCHEME_NOT_ALLOWED,
    ]


def test_refusals_for_syntax_are_counted_by_reason(admitter: Admitter, ledger: Ledger) -> None:
    admitter.admit([BAD, BAD, "no url", URL])
    assert ledger.refusals() == {"credentials_in_url": 2, "invalid_url": 1}


def test_a_refusal_needs_no_redis(away: Admitter) -> None:
    (verdict,) = away.admit([BAD])
    assert isinstance(verdict, InvalidMission)
    assert verdict.reason is Reason.CREDENTIALS_IN_URL


def test_without_redis_nothing_is_accepted(away: Admitter) -> None:
    with pytest.raises(LedgerUnavailable, match=r"^store_unavailable: "):
        away.admit([BAD, URL])


def test_no_urls_are_no_verdicts(away: Admitter) -> None:
    assert away.admit([]) == []


def test_what_is_encrypted_is_the_url_as_it_will_be_fetched(
    admitter: Admitter, client: redis.Redis, keyring: UrlKeyring
) -> None:
    (ticket,) = cast("list[Ticket]", admitter.admit(["HTTPS://Docs.Example:443/a/../page#part"]))
    record = client.hget(entry_key(ticket.id), "url")
    assert keyring.decrypt(cast("bytes", record), ticket.id) == "https://docs.example/page"


@pytest.mark.parametrize("submitter", ["", "-x", ".x", "a b", "a/b", "x" * 65, "å", "a\n", None, 7, ["a"]])
def test_a_submitter_that_is_none_is_refused(admitter: Admitter, submitter: str) -> None:
    with pytest.raises(InvalidMission, match=r"^malformed_message: a submitter is"):
        admitter.admit([URL], submitter=submitter)


@pytest.mark.parametrize("submitter", ["a", "7", "team-a", "Team_A.nightly", "x" * 64])
def test_a_submitter_is_letters_digits_and_a_few_signs(admitter: Admitter, client: redis.Redis, submitter: str) -> None:
    (ticket,) = cast("list[Ticket]", admitter.admit([URL], submitter=submitter))
    assert client.hget(entry_key(ticket.id), "submitter") == submitter.encode()


@pytest.mark.parametrize("key", ["", "x" * 257, 7, b"key"])
def test_an_idempotency_key_that_is_none_is_refused(admitter: Admitter, key: str) -> None:
    with pytest.raises(InvalidMission, match=r"^malformed_message: an idempotency key is"):
        admitter.admit([URL], idempotency_key=key)


@pytest.mark.parametrize("key", ["k", "x" * 256, "ключ", "\udcff", "a\0b"])
def test_an_idempotency_key_may_be_any_text(admitter: Admitter, key: str) -> None:
    first, again = (cast("Ticket", admitter.admit([URL], idempotency_key=key)[0]) for _ in range(2))
    assert (again.id, first.duplicate, again.duplicate) == (first.id, False, True)


@pytest.mark.parametrize("expires", [0, -1, -0.5, True, float("nan"), float("-inf"), "60", [60]])
def test_a_lifetime_that_is_none_is_refused(admitter: Admitter, expires: float) -> None:
    with pytest.raises(InvalidMission, match=r"^malformed_message: expires is"):
        admitter.admit([URL], expires_seconds=expires)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 86400), (60, 60), (0.5, 0.5), (10**400, 86400), (float("inf"), 86400)]
)
def test_a_lifetime_is_what_was_asked_for_up_to_the_maximum_age(
    admitter: Admitter, client: redis.Redis, asked: float | None, seconds: float
) -> None:
    (ticket,) = cast("list[Ticket]", admitter.admit([URL], expires_seconds=asked))
    submitted, expires = cast("list[bytes]", client.hmget(entry_key(ticket.id), "submitted_at", "expires_at"))
    assert int(expires) - int(submitted) == seconds * 1000


def test_an_id_of_the_callers_own_is_its_idempotency_key(admitter: Admitter) -> None:
    own = new_mission_id()
    first, again = (cast("Ticket", admitter.admit([URL], mission_id=own)[0]) for _ in range(2))
    assert (first.id, first.duplicate) == (own, False)
    assert (again.id, again.duplicate) == (own, True)
    assert isinstance(admitter.admit([URL + "&more"], mission_id=own)[0], IdempotencyConflict)


def test_an_id_that_is_known_without_a_fingerprint_stands_for_no_other_url(admitter: Admitter) -> None:
    """A ticket's id, sent as the task id of `decoder.submit`: nothing would show that its URL is never fetched."""
    (ticket,) = cast("list[Ticket]", admitter.admit([URL]))
    assert isinstance(admitter.admit([URL + "&more"], mission_id=ticket.id)[0], IdempotencyConflict)


def test_a_submitter_whose_results_fill_its_quota_is_told_when_there_is_room(
    admitter: Admitter, client: redis.Redis
) -> None:
    soon = (round(time.time()) + 60) * 1000
    client.hset(Key.STORED + "app", mapping={"bytes": 2**30, "until": soon, soon: 2**30})
    (refusal,) = admitter.admit([URL], submitter="app")
    assert isinstance(refusal, StoredQuotaExceeded)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.reason is Reason.STORED_QUOTA_EXCEEDED
    assert refusal.reason.transient
    assert 55 < refusal.retry_after <= 61
    assert str(refusal).startswith("stored_quota_exceeded: this submitter's results fill DECODER_STORED_QUOTA; ")
    assert isinstance(admitter.admit([URL], submitter="other")[0], Ticket)


def woken(client: redis.Redis) -> list[str]:
    """The ids in the queue's messages."""
    entries: Any = client.lrange(QUEUE, 0, -1)
    return [id_ for entry in entries for id_ in arguments(entry)[0][0]]


def test_a_call_that_was_sent_again_after_its_answer_was_lost_gives_a_new_mission_with_one_message(
    admitter: Admitter, ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = ledger.admit

    def admit_twice(
        admissions: Sequence[Admission], submitter: str, batch_id: str, priority: Priority
    ) -> list[Admitted]:
        admit(admissions, submitter, batch_id, priority)
        return admit(admissions, submitter, batch_id, priority)

    monkeypatch.setattr(ledger, "admit", admit_twice)
    (ticket,) = admitter.admit([URL])
    assert isinstance(ticket, Ticket)
    assert not ticket.duplicate
    assert woken(client) == [ticket.id]
    assert ledger.stats().queued == 1


def test_a_message_comes_with_what_is_new_and_none_with_what_is_known_or_refused(
    admitter: Admitter, client: redis.Redis
) -> None:
    admitter.admit([f"{URL}&{n}" for n in range(20)], idempotency_key="night-1")
    assert client.llen(QUEUE) == 2
    client.delete(QUEUE)
    *known, fresh, _ = admitter.admit([f"{URL}&{n}" for n in range(21)] + [BAD], idempotency_key="night-1")
    assert all(isinstance(ticket, Ticket) and ticket.duplicate for ticket in known)
    assert isinstance(fresh, Ticket)
    assert (client.llen(QUEUE), fresh.id in woken(client)) == (1, True)


def test_a_mission_that_is_there_keeps_its_priority_and_the_ticket_tells_it(admitter: Admitter, ledger: Ledger) -> None:
    def ticket(priority: str) -> Ticket:
        (ticket,) = admitter.admit([URL], idempotency_key="k", priority=priority)
        assert isinstance(ticket, Ticket)
        return ticket

    tickets = [ticket("low"), ticket("high"), ticket("normal")]
    assert [(ticket.duplicate, ticket.priority) for ticket in tickets] == [
        (duplicate, Priority.LOW) for duplicate in (False, True, True)
    ]
    assert (ledger.stats().queued, ledger.stats().queued_low) == (1, 1)


@pytest.mark.parametrize("priority", ["urgent", "HIGH", "", 1, None, ["high"]])
def test_a_priority_that_is_none_is_refused(priority: Any, admitter: Admitter, ledger: Ledger) -> None:
    with pytest.raises(InvalidMission, match=r"^malformed_message: a priority is high, normal or low$"):
        admitter.admit([URL], priority=priority)
    assert ledger.stats().queued == 0


def test_missions_are_admitted_where_the_queue_takes_no_message(
    admitter: Admitter, ledger: Ledger, client: redis.Redis
) -> None:
    client.set(QUEUE, "a string where the list should be")
    assert isinstance(admitter.admit([URL])[0], Ticket)
    assert ledger.stats().queued == 1
