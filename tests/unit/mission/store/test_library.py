"""The library of functions: when it is loaded, by which login, and the error if it is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from mission.errors import DecoderError, LedgerUnavailable
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.store import library
from mission.store.changes import Admission, Commit
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.library import Loaded
from tests.claims import claim_these
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

NUMBER = f"library number {library.LIBRARY}\n"


@pytest.fixture(autouse=True)
def _without_functions(client: redis.Redis) -> Iterator[None]:
    """A server without the functions; they are restored for the other tests, whose logins may not load them."""
    client.function_flush()
    yield
    client.function_flush()
    library.load(client)


@pytest.mark.parametrize(
    ("there", "outcome", "stays"),
    [
        (None, Loaded.LOADED, False),
        (library.source(), Loaded.KEPT, True),
        (library.source() + "-- changed\n", Loaded.REPLACED, False),
        (library.source().replace(NUMBER, "library number 0\n"), Loaded.REPLACED, False),
        (library.source().replace(NUMBER, f"library number {library.LIBRARY + 1}\n"), Loaded.NEWER, True),
    ],
    ids=["none", "the same", "another text of the same number", "an older one", "a newer one"],
)
def test_loads_what_is_missing_or_older_and_leaves_what_is_newer(
    client: redis.Redis, there: str | None, outcome: Loaded, *, stays: bool
) -> None:
    if there:
        client.function_load(there)
    assert library.load(client) is outcome
    assert library.stored(client) == (there if stays else library.source())
    assert library.load(client) is (Loaded.NEWER if outcome is Loaded.NEWER else Loaded.KEPT)


def test_a_library_of_that_name_that_is_not_the_decoders_is_left_alone(client: redis.Redis) -> None:
    foreign = "#!lua name=decoder\nredis.register_function('other', function() return 1 end)"
    client.function_load(foreign)
    with pytest.raises(DecoderError, match="not the decoder's"):
        library.load(client)
    assert library.stored(client) == foreign


def test_the_number_can_be_asked_for(client: redis.Redis) -> None:
    assert library.number(client) is None
    library.load(client)
    assert library.number(client) == library.LIBRARY


def test_who_may_load_functions_loads_those_that_are_missing_at_the_first_call(
    ledger: Ledger, client: redis.Redis
) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 60)], "a")
    client.function_flush()
    assert [claim.id for claim in claim_these(ledger, [answer.id], 1, 60).claims] == [answer.id]


@pytest.mark.server("logins that may do less")
def test_who_may_not_load_functions_says_what_is_to_be_done(client: redis.Redis, redis_server: EmbeddedRedis) -> None:
    settings = WorkerSettings.from_env(redis_url=redis_server.login_url("producer"))
    admission = Admission(new_mission_id(), b"u", 60)
    with connect(settings) as producer:
        ledger = Ledger(producer, settings)
        with pytest.raises(LedgerUnavailable, match="run `decoder migrate` with the deployer's login"):
            ledger.admit([admission], "a")
        with connect(WorkerSettings.from_env(redis_url=redis_server.login_url("deployer"))) as deployer:
            library.load(deployer)
        assert ledger.admit([admission], "a")[0].state is State.QUEUED


@pytest.mark.server("CONFIG")
def test_a_full_redis_admits_nothing_and_still_ends_what_runs(ledger: Ledger, client: redis.Redis) -> None:
    ids = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"u", 60)], "a")]
    (claim,) = claim_these(ledger, ids, 1, 60).claims
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(LedgerUnavailable, match="maxmemory"):
            ledger.admit([Admission(new_mission_id(), b"u", 60)], "a")
        assert ledger.commit([Commit(claim.id, claim.token, State.FAILED, Reason.HOST_NOT_ALLOWED)], 60) == [
            State.FAILED
        ]
    finally:
        client.config_set("maxmemory", "0")
    assert ledger.status(claim.id).state is State.FAILED
