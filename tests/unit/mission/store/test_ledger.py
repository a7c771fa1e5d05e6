from __future__ import annotations

import time
from datetime import datetime

import pytest
import redis

from mission.errors import LedgerUnavailable, UnknownMission
from mission.ids import new_mission_id
from mission.model import Claim, Cut, MissionStatus, Reason, State
from mission.store import scripts
from mission.store.changes import Admission, Claimed, Commit, Known, Release
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, QUEUE, Key, entry_key, result_key
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.settings import WorkerSettings

TTL = 60.0


def admit(ledger: Ledger, count: int = 1, *, lifetime: float = 100.0, submitter: str = "app") -> list[str]:
    answers = ledger.admit([Admission(new_mission_id(), b"sealed url", lifetime) for _ in range(count)], submitter)
    ledger.client.delete(QUEUE)  # their messages have been taken
    return [answer.id for answer in answers if answer.refusal is None]


def its_time_has_come(client: redis.Redis, mission_id: str) -> None:
    """Make a mission due that waits for a retry."""
    client.zadd(PREFIX + "due", {mission_id: 1}, xx=True)
    client.zadd(PREFIX + "due_hosts", {"": 1}, xx=True)


def claim_one(ledger: Ledger, mission_id: str, lease: float = 60.0) -> Claim:
    return claim_these(ledger, [mission_id], 1, lease).claims[0]


def succeed(ledger: Ledger, claim: Claim) -> State | None:
    return ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, b"r")], TTL)[0]


def test_an_admitted_mission_is_queued(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    status = ledger.status(mission_id)
    assert (status.state, status.attempts, status.secrets, status.reason) == (State.QUEUED, 0, None, None)
    assert status.submitted_at.endswith("Z")
    assert status.finished_at is None


def test_admitting_the_same_id_again_changes_nothing(ledger: Ledger) -> None:
    admission = Admission(new_mission_id(), b"u", 100)
    first, second = ledger.admit([admission], "a")[0], ledger.admit([admission], "a")[0]
    assert (first.duplicate, second.duplicate) == (False, True)
    assert ledger.stats().queued == 1


def test_a_fingerprint_that_differs_is_a_conflict(ledger: Ledger) -> None:
    own = new_mission_id()
    ledger.admit([Admission(own, b"u", 100, [Known(own, "k1", "aa", alone=True)])], "a")
    same = ledger.admit([Admission(own, b"u", 100, [Known(own, "k1", "aa", alone=True)])], "a")[0]
    other = ledger.admit([Admission(own, b"u", 100, [Known(own, "k1", "bb", alone=True)])], "a")[0]
    assert same.duplicate
    assert other.refusal is Reason.IDEMPOTENCY_CONFLICT


def test_an_idempotency_key_is_recognised_after_a_rotation_of_the_url_key(ledger: Ledger) -> None:
    old, new = new_mission_id(), new_mission_id()
    ledger.admit([Admission(old, b"u", 100, [Known(old, "k1", "aa", alone=True)])], "a")
    known = [Known(new, "k2", "zz", alone=True), Known(old, "k1", "aa", alone=True)]
    again = ledger.admit([Admission(new, b"u", 100, known)], "a")[0]
    assert (again.id, again.duplicate) == (old, True)


def test_the_queue_limit_refuses_what_is_above_it_and_counts_it(client: redis.Redis, settings: WorkerSettings) -> None:
    ledger = Ledger(client, settings.model_copy(update={"queue_limit": 3}))
    answers = ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(5)], "a")
    assert [answer.refusal for answer in answers] == [None, None, None, Reason.QUEUE_FULL, Reason.QUEUE_FULL]
    assert ledger.refusals() == {"queue_full": 2}
    assert succeed(ledger, claim_one(ledger, answers[0].id))
    assert len(admit(ledger, 2)) == 1, "finished missions make room"


def test_a_quota_is_kept_for_each_submitter_and_says_when_to_come_back(
    client: redis.Redis, settings: WorkerSettings
) -> None:
    ledger = Ledger(client, settings.model_copy(update={"quota": "3/hour"}))
    answers = ledger.admit([Admission(new_mission_id(), b"u", 100) for _ in range(4)], "a")
    assert [answer.refusal for answer in answers] == [None, None, None, Reason.QUOTA_EXCEEDED]
    assert 1100 < answers[3].retry_after <= 1200
    assert len(admit(ledger, submitter="b")) == 1


def test_what_was_admitted_before_or_is_refused_uses_up_no_quota(client: redis.Redis, settings: WorkerSettings) -> None:
    assert admit(Ledger(client, settings.model_copy(update={"quota": "2/hour", "queue_limit": 0}))) == []
    ledger = Ledger(client, settings.model_copy(update={"quota": "2/hour"}))
    admission = Admission(new_mission_id(), b"u", 100)
    assert [ledger.admit([admission], "app")[0].duplicate for _ in range(4)] == [False, True, True, True]
    assert [len(admit(ledger)) for _ in range(2)] == [1, 0]


def test_a_quota_that_was_not_used_does_not_grow(client: redis.Redis, settings: WorkerSettings) -> None:
    ledger = Ledger(client, settings.model_copy(update={"quota": "2/hour"}))
    client.set(PREFIX + "quota:app", 1)  # its last use was long ago
    assert [len(admit(ledger)) for _ in range(3)] == [1, 1, 0]


def test_a_claim_hands_out_a_rising_token(ledger: Ledger) -> None:
    first, second = admit(ledger, 2)
    claims = claim_these(ledger, [first, second], 2, 60).claims
    assert claims[0].token < claims[1].token
    assert [claim.attempt for claim in claims] == [1, 1]
    assert claims[0].url_record == b"sealed url"
    assert claims[0].submitter == "app"


@pytest.mark.parametrize("count", [3, 10**14])
def test_tokens_of_several_claims_rise_while_the_clock_is_behind_them(
    count: int, ledger: Ledger, client: redis.Redis
) -> None:
    first = int(1e6 * time.time()) + 10**12
    client.set(Key.TOKEN, first)
    admit(ledger, 9)
    tokens = [claim.token for _ in range(2) for claim in ledger.claim(3, 60).claims]
    tokens += [claim.token for claim in ledger.claim(count, 60).claims]
    admit(ledger, 3)
    tokens += [claim.token for claim in ledger.claim(3, 60).claims]
    assert tokens == sorted(set(tokens))
    assert (len(tokens), tokens[0]) == (12, first + 1)
    assert tokens[-1] < first + 5000


def test_a_claim_takes_no_more_than_it_has_slots_for(ledger: Ledger) -> None:
    ids = admit(ledger, 5)
    assert [claim.id for claim in ledger.claim(2, 60).claims] == ids[:2]
    assert [claim.id for claim in ledger.claim(9, 60).claims] == ids[2:]


def test_a_claim_finds_nothing_where_nothing_waits(ledger: Ledger) -> None:
    _leased, finished, due = ids = admit(ledger, 3)
    claims = {claim.id: claim for claim in claim_these(ledger, ids, 3, 60).claims}
    assert succeed(ledger, claims[finished])
    ledger.release([Release(due, claims[due].token, Reason.HTTP_SERVER_ERROR, 60.0)], 5)
    assert ledger.claim(4, 60) == Claimed([], [], [], more=False)


def test_an_expired_mission_is_dead_when_it_is_claimed(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    client.hset(entry_key(mission_id), "expires_at", "1")
    claimed = claim_these(ledger, [mission_id], 1, 60)
    assert (claimed.claims, claimed.expired) == ([], [mission_id])
    status = ledger.status(mission_id)
    assert (status.state, status.reason) == (State.DEAD, Reason.EXPIRED)


def test_a_schema_is_read_a_release_before_it_is_written(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = scripts.WRITES
    first, second = admit(ledger, 2)
    client.hset(entry_key(second), "v", now + 1)
    claimed = ledger.claim(2, 60)
    assert ([claim.id for claim in claimed.claims], claimed.unreadable) == ([first], [second])
    monkeypatch.setattr(scripts, "READS", (now, now + 1))
    its_time_has_come(client, second)
    assert ledger.take_due(10)[0] == [second]
    assert [claim.id for claim in ledger.claim(2, 60).claims] == [second]
    monkeypatch.setattr(scripts, "WRITES", now + 1)
    (third,) = admit(ledger)
    assert client.hget(entry_key(third), "v") == str(now + 1).encode()


def test_a_release_reads_what_it_writes() -> None:
    assert scripts.READS[0] <= scripts.WRITES <= scripts.READS[1]
    assert scripts.READS[0] in (scripts.WRITES - 1, scripts.WRITES)


def test_an_entry_of_a_newer_schema_or_of_none_waits_out_of_the_others_way(ledger: Ledger, client: redis.Redis) -> None:
    ids = admit(ledger, 3)
    client.hset(entry_key(ids[0]), "v", "99")
    client.hdel(entry_key(ids[1]), "v")
    claimed = ledger.claim(1, 60)
    assert ([claim.id for claim in claimed.claims], claimed.unreadable) == ([ids[2]], ids[:2])
    assert [ledger.status(mission_id).attempts for mission_id in ids] == [0, 0, 1]
    now, _ = client.time()
    for mission_id in ids[:2]:
        assert (client.zscore(PREFIX + "due", mission_id) or 0.0) / 1000 - now == pytest.approx(60, abs=2)


def test_a_commit_writes_the_result_and_ends_the_mission(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    assert ledger.commit([Commit(mission_id, claim.token, State.SUCCEEDED, None, 3, b"record")], TTL) == [
        State.SUCCEEDED
    ]
    status = ledger.status(mission_id)
    assert (status.state, status.secrets, status.attempts) == (State.SUCCEEDED, 3, 1)
    assert status.finished_at is not None
    assert client.get(result_key(mission_id, claim.token)) == b"record"
    assert 0 < client.ttl(result_key(mission_id, claim.token)) <= TTL
    assert not client.hexists(entry_key(mission_id), "url")


def test_what_cut_a_search_short_is_told_and_never_in_a_strangers_words(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, cut=frozenset({Cut.TIME, Cut.RATIO}))], TTL)
    assert ledger.status(claim.id).cut == ("ratio", "time")
    client.hset(entry_key(claim.id), "cut", "time,\x1b[2J")
    assert ledger.status(claim.id).cut == ("time", "unreadable")


@pytest.mark.server("CONFIG maxmemory")
def test_a_mission_whose_result_cannot_be_written_is_not_ended(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    commit = Commit(mission_id, claim_one(ledger, mission_id).token, State.SUCCEEDED, None, 3, b"record")
    client.config_set("maxmemory", "1")  # full
    try:
        with pytest.raises(LedgerUnavailable):
            ledger.commit([commit], TTL)
        assert ledger.status(mission_id).state is State.RUNNING
    finally:
        client.config_set("maxmemory", "0")
    assert ledger.commit([commit], TTL) == [State.SUCCEEDED]
    assert client.get(result_key(mission_id, commit.token)) == b"record"


def test_a_worker_whose_lease_was_taken_over_cannot_commit(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    stale = claim_one(ledger, mission_id, lease=0.001)
    wait_for(lambda: mission_id in ledger.reap(5, 2).again)
    fresh = claim_one(ledger, mission_id)
    assert fresh.token > stale.token
    assert ledger.commit([Commit(mission_id, stale.token, State.FAILED, Reason.TLS_FAILURE)], TTL) == [None]
    assert succeed(ledger, fresh)
    assert ledger.status(mission_id).state is State.SUCCEEDED


def test_a_commit_sent_twice_is_done_once(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    commit = Commit(mission_id, claim.token, State.SUCCEEDED, None, 1, b"r")
    assert [ledger.commit([commit], TTL) for _ in range(2)] == [[State.SUCCEEDED]] * 2
    assert ledger.stats().succeeded == 1


def test_a_stale_commit_takes_its_record_back(ledger: Ledger, client: redis.Redis) -> None:
    stale = claim_one(ledger, admit(ledger)[0])
    ledger.release([Release(stale.id, stale.token, Reason.SHUTDOWN, 0.0)], 5)
    assert succeed(ledger, stale) is None
    assert client.exists(result_key(stale.id, stale.token)) == 0
    wait_for(lambda: stale.id in ledger.take_due(10)[0])
    assert succeed(ledger, fresh := claim_one(ledger, stale.id)) is State.SUCCEEDED
    assert succeed(ledger, stale) is None
    assert client.exists(result_key(stale.id, stale.token)) == 0
    assert client.exists(result_key(stale.id, fresh.token)) == 1


def test_a_record_whose_commit_is_sent_twice_stays_and_is_counted_once(ledger: Ledger, client: redis.Redis) -> None:
    claim = claim_one(ledger, admit(ledger)[0])
    commit = Commit(claim.id, claim.token, State.SUCCEEDED, None, 1, b"r" * 100)
    assert [ledger.commit([commit], TTL) for _ in range(2)] == [[State.SUCCEEDED]] * 2
    assert client.get(result_key(claim.id, claim.token)) == b"r" * 100
    assert client.hget(Key.STORED + "app", "bytes") == b"100"


def test_commits_are_settled_together_each_by_its_own_token(ledger: Ledger) -> None:
    ids = admit(ledger, 3)
    claims = claim_these(ledger, ids, 3, 60).claims
    commits = [Commit(c.id, c.token, State.SUCCEEDED, None, 0, b"r") for c in claims]
    commits[1] = Commit(ids[1], claims[1].token + 100, State.SUCCEEDED, None, 0, b"r")
    assert ledger.commit(commits, TTL) == [State.SUCCEEDED, None, State.SUCCEEDED]


@pytest.mark.parametrize(("max_attempts", "state"), [(5, State.RETRYING), (1, State.DEAD)])
def test_a_release_sent_twice_is_done_once(ledger: Ledger, max_attempts: int, state: State) -> None:
    """Its answer may be lost: a repeated call must report the death too, or nobody counts it."""
    claim = claim_one(ledger, admit(ledger)[0])
    release = Release(claim.id, claim.token, Reason.READ_TIMEOUT, 60.0)
    assert [ledger.release([release], max_attempts) for _ in range(2)] == [[state], [state]]
    assert (ledger.stats().retrying, ledger.stats().dead) == (state is State.RETRYING, state is State.DEAD)


def test_a_release_brings_the_mission_back_when_it_is_due(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    assert ledger.release([Release(mission_id, claim.token, Reason.HTTP_SERVER_ERROR, 0.0)], 5) == [State.RETRYING]
    assert ledger.status(mission_id).reason is Reason.HTTP_SERVER_ERROR
    wait_for(lambda: mission_id in ledger.take_due(10)[0])
    assert claim_one(ledger, mission_id).attempt == 2


def test_a_release_that_uses_no_attempt_gives_it_back(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    ledger.release([Release(mission_id, claim.token, Reason.HOST_PAUSED, 0.0, uses_attempt=False)], 1)
    assert ledger.status(mission_id).attempts == 0
    assert ledger.status(mission_id).state is State.RETRYING


def test_a_release_whose_answer_was_lost_may_be_done_again(ledger: Ledger) -> None:
    for reason, counts in ((Reason.HOST_BUSY, False), (Reason.READ_TIMEOUT, True)):
        (mission_id,) = admit(ledger)
        release = Release(mission_id, claim_one(ledger, mission_id).token, reason, 0.0, counts)
        assert ledger.release([release], 5) == ledger.release([release], 5) == [State.RETRYING]


def test_what_is_no_failure_is_told_until_the_mission_has_its_turn_and_hides_no_reason(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    ledger.release([Release(mission_id, claim_one(ledger, mission_id).token, Reason.READ_TIMEOUT, 0.0)], 5)
    wait_for(lambda: mission_id in ledger.take_due(10)[0])
    assert ledger.status(mission_id).next_try_at is None
    token = claim_one(ledger, mission_id).token
    ledger.release([Release(mission_id, token, Reason.HOST_BUSY, 0.0, uses_attempt=False, host="h")], 5)
    status = ledger.status(mission_id)
    assert (status.reason, status.put_off, bool(status.next_try_at)) == (Reason.READ_TIMEOUT, Reason.HOST_BUSY, True)
    wait_for(lambda: mission_id in ledger.take_due(10)[0])
    status = ledger.status(mission_id)
    assert (status.reason, status.put_off, status.next_try_at) == (Reason.READ_TIMEOUT, None, None)


def test_the_next_try_is_after_the_pause_of_its_host(ledger: Ledger, client: redis.Redis) -> None:
    ledger.host_failed("h", "a", 1, 1000.0)
    (mission_id,) = admit(ledger)
    token = claim_one(ledger, mission_id).token
    ledger.release([Release(mission_id, token, Reason.HOST_PAUSED, 0.0, uses_attempt=False, host="h")], 5)
    next_try = datetime.fromisoformat(str(ledger.status(mission_id).next_try_at))
    assert 990 < next_try.timestamp() - client.time()[0] <= 1001


def test_a_mission_out_of_attempts_is_dead_with_its_last_reason(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    assert ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, 0.0)], 1) == [State.DEAD]
    status = ledger.status(mission_id)
    assert (status.state, status.reason) == (State.DEAD, Reason.READ_TIMEOUT)
    assert ledger.stats().dead == 1


def lose(ledger: Ledger, mission_id: str, *, max_attempts: int) -> MissionStatus:
    """Let its worker die; the status after a reaper noticed it."""
    claim_one(ledger, mission_id, lease=0.001)
    wait_for(lambda: ledger.reap(max_attempts, 2).leases_expired == 1)
    return ledger.status(mission_id)


def test_a_neighbours_crash_uses_up_no_attempt(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    for _ in range(2):
        status = lose(ledger, mission_id, max_attempts=1)
        assert (status.state, status.attempts) == (State.QUEUED, 0)


def test_a_mission_whose_worker_dies_each_time_is_dead_in_the_end(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    states = [lose(ledger, mission_id, max_attempts=3).state for _ in range(5)]
    assert states == [*[State.QUEUED] * 4, State.DEAD]
    assert ledger.status(mission_id).reason is Reason.ATTEMPTS_EXHAUSTED


def test_attempts_that_failed_before_do_not_make_a_lost_lease_fatal(ledger: Ledger) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    ledger.release([Release(mission_id, claim.token, Reason.READ_TIMEOUT, 0.0)], 2)
    wait_for(lambda: mission_id in ledger.take_due(10)[0])
    status = lose(ledger, mission_id, max_attempts=2)
    assert (status.state, status.attempts) == (State.QUEUED, 1)


def suspects(ledger: Ledger, count: int) -> list[str]:
    """Missions that lost two leases."""
    ids = admit(ledger, count)
    for _ in range(2):
        claim_these(ledger, ids, count, 0.001)
        wait_for(lambda: ledger.reap(5, 2).leases_expired == count)
    return ids


def test_of_missions_that_outlived_two_leases_one_is_claimed_at_a_time(ledger: Ledger) -> None:
    ids = suspects(ledger, 3)
    (claim,) = claim_these(ledger, ids, 3, 60, suspect_after=2).claims
    assert claim.suspect
    assert [ledger.status(id_).state for id_ in ids if id_ != claim.id] == [State.RETRYING] * 2


def test_a_suspect_that_was_not_taken_is_due_after_the_delay(ledger: Ledger, client: redis.Redis) -> None:
    (suspect,) = suspects(ledger, 1)
    claim_these(ledger, [suspect], 1, 60, suspect=False, suspect_after=2, suspect_delay_seconds=30)
    now, _ = client.time()
    due = client.zscore(PREFIX + "due", suspect) or 0.0
    assert due / 1000 - now == pytest.approx(30, abs=2)


def test_a_worker_that_has_a_suspect_gets_no_other_and_the_others_lose_no_attempt(ledger: Ledger) -> None:
    (suspect,), (other,) = suspects(ledger, 1), admit(ledger)
    claims = claim_these(ledger, [suspect, other], 2, 60, suspect=False, suspect_after=2).claims
    assert [claim.id for claim in claims] == [other]
    assert ledger.status(suspect).attempts == 0


def test_only_one_reaper_works_at_a_time(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    claim_one(ledger, mission_id, lease=0.001)
    wait_for(lambda: ledger.reap(5, 2).leases_expired == 1)
    second = ledger.reap(5, 2)
    assert second.leases_expired == 0
    assert client.pttl(PREFIX + "reaper") > 0


def reap_now(ledger: Ledger) -> list[str]:
    """Reap, even directly after the last time."""
    ledger.client.delete(PREFIX + "reaper")
    return ledger.reap(5, 2).again


def test_a_mission_that_is_too_old_is_dead_though_nobody_works(
    ledger: Ledger,
) -> None:
    (mission_id,) = admit(ledger, lifetime=0.001)
    wait_for(lambda: reap_now(ledger) == [] and ledger.status(mission_id).state is State.DEAD)
    assert ledger.status(mission_id).reason is Reason.EXPIRED


def test_a_mission_that_grows_too_old_in_a_workers_hands_ends_as_the_worker_says(
    ledger: Ledger, client: redis.Redis
) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    client.zadd(PREFIX + "expiry", {mission_id: 1})
    reap_now(ledger)
    assert succeed(ledger, claim)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_of_a_finished_mission_no_index_knows(ledger: Ledger, client: redis.Redis, state: State) -> None:
    (mission_id,) = admit(ledger)
    claim = claim_one(ledger, mission_id)
    ledger.commit([Commit(mission_id, claim.token, state, None, 0, b"r")], TTL)
    indexes = ("queued", "leases", "due", "open", "expiry", "dead")
    assert [name for name in indexes if client.zscore(PREFIX + name, mission_id) is not None] == []


def test_a_mission_whose_entry_is_gone_is_forgotten_and_not_published(ledger: Ledger, client: redis.Redis) -> None:
    queued, leased, due = admit(ledger, 3)
    claim_one(ledger, leased, lease=0.001)
    client.zrem(PREFIX + "queued", due)
    client.zadd(PREFIX + "due", {due: 1})
    client.delete(*map(entry_key, (queued, leased, due)))
    wait_for(lambda: reap_now(ledger) == [] and not client.exists(PREFIX + "leases"))
    assert ledger.take_due(10) == ([], False)
    assert ledger.claim(9, 60).claims == []
    reap_now(ledger)
    assert client.exists(*(PREFIX + name for name in ("queued", "leases", "due", "open", "expiry"))) == 0


def test_a_dead_letter_goes_from_the_index_when_the_ledger_forgets_it(
    ledger: Ledger, client: redis.Redis, settings: WorkerSettings
) -> None:
    fresh, old = admit(ledger, 2)
    for mission_id in (fresh, old):
        ledger.release([Release(mission_id, claim_one(ledger, mission_id).token, Reason.READ_TIMEOUT, 0.0)], 1)
    client.zincrby(PREFIX + "dead", -1000 * (settings.ledger_ttl + 1), old)
    ledger.reap(5, 2)
    assert client.zrange(PREFIX + "dead", 0, -1) == [fresh.encode()]


def test_the_stats_count_each_state(ledger: Ledger) -> None:
    assert set(ledger.stats().as_dict().values()) == {0}
    ids = admit(ledger, 5)
    claims = claim_these(ledger, ids[:4], 4, 60).claims
    ledger.commit([Commit(ids[0], claims[0].token, State.SUCCEEDED, None, 1, b"r")], TTL)
    ledger.commit([Commit(ids[1], claims[1].token, State.FAILED, Reason.HOST_NOT_ALLOWED)], TTL)
    ledger.release([Release(ids[2], claims[2].token, Reason.DNS_FAILURE, 60)], 5)
    stats = ledger.stats()
    assert (stats.queued, stats.running, stats.retrying) == (1, 1, 1)
    assert (stats.succeeded, stats.failed, stats.dead) == (1, 1, 0)
    assert stats.oldest_seconds >= 0


def test_an_unknown_mission_is_said_to_be_unknown(ledger: Ledger) -> None:
    with pytest.raises(UnknownMission, match="no mission"):
        ledger.status(new_mission_id())


def test_a_ledger_that_cannot_be_reached_says_so() -> None:
    settings = WorkerSettings.from_env(redis_url="redis://127.0.0.1:1/0", redis_timeout=1)
    with pytest.raises(LedgerUnavailable, match="store_unavailable"):
        Ledger(connect(settings), settings).stats()


@pytest.mark.server("WAIT")
def test_missing_replicas_are_an_outage_not_a_ticket(client: redis.Redis, settings: WorkerSettings) -> None:
    ledger = Ledger(client, settings.model_copy(update={"redis_replicas": 1, "redis_timeout": 0.05}))
    with pytest.raises(LedgerUnavailable, match="0 of 1 replicas"):
        admit(ledger)


@pytest.mark.server("WAIT")
def test_missing_replicas_are_an_outage_not_a_commit(client: redis.Redis, settings: WorkerSettings) -> None:
    ledger = Ledger(client, settings)
    claim = claim_one(ledger, admit(ledger)[0])
    careful = Ledger(client, settings.model_copy(update={"redis_replicas": 1, "redis_timeout": 0.05}))
    with pytest.raises(LedgerUnavailable, match="0 of 1 replicas"):
        succeed(careful, claim)


def test_a_token_never_comes_back_even_for_an_id_admitted_anew(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    first = claim_one(ledger, mission_id)
    client.delete(entry_key(mission_id))
    ledger.admit([Admission(mission_id, b"u", 100)], "a")
    assert claim_one(ledger, mission_id).token > first.token


def test_a_token_never_falls_even_where_a_failover_lost_the_counter(ledger: Ledger, client: redis.Redis) -> None:
    first, second = admit(ledger, 2)
    before = claim_one(ledger, first)
    client.delete(PREFIX + "token")
    assert claim_one(ledger, second).token > before.token


def test_a_token_rises_also_where_the_clock_is_behind_it(ledger: Ledger, client: redis.Redis) -> None:
    (mission_id,) = admit(ledger)
    ahead = 2**53 - 10  # the largest exact integer in a double, as in Lua: the year 2255
    client.set(PREFIX + "token", ahead)
    claim = claim_one(ledger, mission_id)
    assert claim.token == ahead + 1
    assert succeed(ledger, claim)
