from __future__ import annotations

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import LedgerUnavailable, UnknownMission
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.operate.dead_letters import DeadLetters
from mission.settings import Settings
from mission.store.changes import Admission, Commit, Release
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, entry_key
from tests.claims import claim_these

WHY = "the mirror is back"
HOUR_MS = 3_600_000


@pytest.fixture
def letters(client: redis.Redis, settings: Settings, audit: AuditLog) -> DeadLetters:
    """The dead letters of an empty ledger."""
    return DeadLetters(client, settings, audit)


def kill(ledger: Ledger, reason: Reason = Reason.READ_TIMEOUT, *, submitter: str = "app", attempts: int = 1) -> str:
    """Admit a mission and let it use up its attempts."""
    (answer,) = ledger.admit([Admission(new_mission_id(), b"sealed url", 1000)], submitter)
    for left in reversed(range(attempts)):
        die(ledger, answer.id, reason, max_attempts=attempts)
        if left:
            wake(ledger, answer.id)
    return answer.id


def die(ledger: Ledger, mission_id: str, reason: Reason = Reason.READ_TIMEOUT, *, max_attempts: int = 1) -> None:
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    ledger.release([Release(mission_id, claim.token, reason, 0.0, allowed_by="*.example.com")], max_attempts)


def wake(ledger: Ledger, mission_id: str) -> None:
    """Let a reaper find the mission due."""
    assert mission_id in ledger.take_due(10)[0]


def aged(client: redis.Redis, mission_id: str, milliseconds: int) -> None:
    """Backdate a mission's death by this time."""
    died = int(client.zscore(PREFIX + "dead", mission_id) or 0) - milliseconds
    client.zadd(PREFIX + "dead", {mission_id: died})
    client.hset(entry_key(mission_id), "finished_at", died)


def records(audit: AuditLog) -> list[tuple[str, str | None, str, str]]:
    return [(entry.action, entry.mission_id, entry.why, entry.outcome) for entry in audit.entries()]


def test_a_dead_mission_is_listed_with_its_reason_and_its_history(ledger: Ledger, letters: DeadLetters) -> None:
    mission_id = kill(ledger, submitter="team-a", attempts=3)
    (letter,) = letters.find()
    assert (letter.id, letter.reason, letter.attempts, letter.submitter) == (mission_id, "read_timeout", 3, "team-a")
    assert letter.allowed_by == "*.example.com"
    assert [reason for _, reason in letter.history] == ["read_timeout"] * 3
    assert letter.submitted_at <= letter.history[0][0] <= letter.died_at == letter.history[-1][0]


@pytest.mark.parametrize(
    ("stored", "told"),
    [("127.0.0.1:8080", "127.0.0.1:8080"), ("[::1]", "[::1]"), ("\x1b[2J", "unreadable"), ("x" * 301, "unreadable")],
)
def test_an_entry_of_the_allowlist_is_told_as_it_is_and_nothing_else_in_its_place(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis, stored: str, told: str
) -> None:
    client.hset(entry_key(kill(ledger)), "allowed_by", stored)
    assert [letter.allowed_by for letter in letters.find()] == [told]


def test_letters_are_found_by_reason_and_age_the_oldest_first(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis
) -> None:
    ids = [kill(ledger, reason) for reason in (Reason.READ_TIMEOUT, Reason.DNS_FAILURE, Reason.READ_TIMEOUT)]
    for age, mission_id in enumerate(ids, 1):
        aged(client, mission_id, age * HOUR_MS)
    client.delete(entry_key(kill(ledger)))  # it has expired
    assert [letter.id for letter in letters.find()] == ids[::-1]
    assert [letter.id for letter in letters.find(reason=Reason.DNS_FAILURE)] == [ids[1]]
    assert [letter.id for letter in letters.find(older_than_seconds=3 * 3600)] == [ids[2]]


def test_more_letters_than_fit_on_a_page_are_all_found(ledger: Ledger, letters: DeadLetters) -> None:
    ids = set()
    for _ in range(2):
        answers = ledger.admit([Admission(new_mission_id(), b"u", 1000) for _ in range(601)], "app")
        claims = claim_these(ledger, [answer.id for answer in answers], 601, 60).claims
        ledger.release([Release(claim.id, claim.token, Reason.DNS_FAILURE, 0) for claim in claims], 1)
        ids |= {answer.id for answer in answers}
    assert {letter.id for letter in letters.find()} == ids


def test_missions_that_are_not_dead_are_no_letters(ledger: Ledger, letters: DeadLetters) -> None:
    answers = ledger.admit([Admission(new_mission_id(), b"u", 1000) for _ in range(3)], "app")
    (claim,) = claim_these(ledger, [answers[0].id], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.FAILED, Reason.TLS_FAILURE)], 60)
    claim_these(ledger, [answers[1].id], 1, 60)
    assert list(letters.find()) == []
    for answer in answers:
        with pytest.raises(UnknownMission):
            letters.get(answer.id)


def test_a_replayed_mission_runs_again_with_all_its_attempts(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis
) -> None:
    mission_id = kill(ledger, attempts=3)
    client.hset(entry_key(mission_id), "submitted_at", 1)
    assert letters.replay(mission_id, why=WHY)
    status, stats = ledger.status(mission_id), ledger.stats()
    assert (status.state, status.attempts, status.reason, status.finished_at) == (State.RETRYING, 0, None, None)
    assert (stats.dead, stats.retrying) == (0, 1)
    assert stats.oldest_seconds < 60, "it looks like a stuck queue"
    assert client.ttl(entry_key(mission_id)) == -1, "it expires with the dead letters"
    assert list(letters.find()) == []
    wake(ledger, mission_id)
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    assert (claim.attempt, claim.url_record) == (1, b"sealed url")
    assert ledger.commit([Commit(mission_id, claim.token, State.SUCCEEDED, None, 2, b"r")], 60) == [State.SUCCEEDED]
    assert ledger.status(mission_id).state is State.SUCCEEDED


def test_a_replayed_mission_that_nobody_works_dies_of_age_once_more(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis
) -> None:
    mission_id = kill(ledger)
    letters.replay(mission_id, why=WHY)
    assert client.zscore(PREFIX + "expiry", mission_id) == float(client.hget(entry_key(mission_id), "expires_at") or 0)
    client.zadd(PREFIX + "expiry", {mission_id: 1}, xx=True)
    client.delete(PREFIX + "reaper")
    assert ledger.reap(5, 2).dead == [(mission_id, Reason.EXPIRED)]


def test_the_holder_of_before_cannot_commit_a_replayed_mission(ledger: Ledger, letters: DeadLetters) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    (stale,) = claim_these(ledger, [answer.id], 1, 60).claims
    ledger.release([Release(answer.id, stale.token, Reason.READ_TIMEOUT, 0)], 1)
    letters.replay(answer.id, why=WHY)
    wake(ledger, answer.id)
    (claim,) = claim_these(ledger, [answer.id], 1, 60).claims
    assert claim.token > stale.token
    assert ledger.commit([Commit(answer.id, stale.token, State.SUCCEEDED, None, 0, b"r")], 60) == [None]


def test_an_expired_mission_gets_a_lifetime_of_its_own(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis
) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    client.hset(entry_key(answer.id), "expires_at", "1")
    assert claim_these(ledger, [answer.id], 1, 60).expired == [answer.id]
    assert letters.replay(answer.id, why=WHY)
    wake(ledger, answer.id)
    assert len(claim_these(ledger, [answer.id], 1, 60).claims) == 1


def test_a_replayed_mission_counts_towards_the_queue_limit_again(
    client: redis.Redis, settings: Settings, audit: AuditLog
) -> None:
    full = settings.model_copy(update={"queue_limit": 1})
    ledger = Ledger(client, full)
    DeadLetters(client, full, audit).replay(kill(ledger), why=WHY)
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    assert answer.refusal is Reason.QUEUE_FULL


def test_a_replay_stands_in_the_history(ledger: Ledger, letters: DeadLetters) -> None:
    mission_id = kill(ledger)
    letters.replay(mission_id, why=WHY)
    wake(ledger, mission_id)
    die(ledger, mission_id, Reason.DNS_FAILURE)
    assert [reason for _, reason in letters.get(mission_id).history] == ["read_timeout", "replayed", "dns_failure"]


def test_a_discarded_mission_stays_dead_and_loses_its_url(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis
) -> None:
    mission_id = kill(ledger)
    assert letters.discard(mission_id, why=WHY)
    status = ledger.status(mission_id)
    assert (status.state, status.reason) == (State.DEAD, Reason.READ_TIMEOUT)
    assert not client.hexists(entry_key(mission_id), "url")
    assert client.ttl(entry_key(mission_id)) > 0
    assert list(letters.find()) == []
    assert ledger.stats().dead == 0


def test_what_was_discarded_is_neither_replayed_nor_discarded_again(ledger: Ledger, letters: DeadLetters) -> None:
    mission_id = kill(ledger)
    letters.discard(mission_id, why=WHY)
    assert letters.replay(mission_id, why=WHY) is False
    assert letters.discard(mission_id, why=WHY) is False
    assert ledger.status(mission_id).state is State.DEAD


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "replayed"])
def test_what_is_not_dead_is_left_alone(ledger: Ledger, letters: DeadLetters, client: redis.Redis, state: str) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "app")
    if state == "replayed":
        die(ledger, answer.id)
        letters.replay(answer.id, why=WHY)
    elif state != "queued":
        (claim,) = claim_these(ledger, [answer.id], 1, 60).claims
        if state == "succeeded":
            ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, b"r")], 60)
    before = client.hgetall(entry_key(answer.id))
    assert letters.replay(answer.id, why=WHY) is False
    assert letters.discard(answer.id, why=WHY) is False
    assert client.hgetall(entry_key(answer.id)) == before


def test_each_use_is_on_record_with_its_start_and_its_end(
    ledger: Ledger, letters: DeadLetters, audit: AuditLog
) -> None:
    first, second = kill(ledger), kill(ledger)
    letters.replay(first, why=f"  {WHY} ")
    letters.replay(first, why=WHY)
    letters.discard(second, why=WHY)
    assert records(audit) == [
        ("replay", first, WHY, "started"),
        ("replay", first, WHY, "replayed"),
        ("replay", first, WHY, "started"),
        ("replay", first, WHY, "not_dead"),
        ("discard", second, WHY, "started"),
        ("discard", second, WHY, "discarded"),
    ]


def test_that_it_failed_is_on_record(
    ledger: Ledger, letters: DeadLetters, client: redis.Redis, audit: AuditLog
) -> None:
    mission_id = kill(ledger)
    client.delete(PREFIX + "open")
    client.set(PREFIX + "open", "not a sorted set")
    with pytest.raises(LedgerUnavailable):
        letters.replay(mission_id, why=WHY)
    assert records(audit)[1][3].startswith("failed: store_unavailable")


def test_a_redis_that_is_away_is_unavailable(audit: AuditLog) -> None:
    nowhere = Settings.from_env(redis_url="redis://127.0.0.1:1/0")
    with connect(nowhere) as client, pytest.raises(LedgerUnavailable):
        list(DeadLetters(client, nowhere, audit).find())
