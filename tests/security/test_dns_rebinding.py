"""A name whose addresses change between check and use, and a name server that never answers; observed at the socket."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import worker.fetch.dns
from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.fetching import NAME, fetching
from tests.servers.misbehaving import MisbehavingServer
from tests.servers.names import NameServer
from tests.servers.sockets import connections

PUBLIC = "93.184.216.34"  # no connection is made: the hook at the socket refuses it


@pytest.fixture
def victim() -> Iterator[MisbehavingServer]:
    """Addresses that an attacker would like to reach."""
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fetch queries the name server again, as it does once an answer has expired."""
    monkeypatch.setattr(worker.fetch.dns, "FRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("forgetful")
def test_a_changed_answer_is_checked_again(victim: MisbehavingServer) -> None:
    with NameServer([PUBLIC], ["127.0.0.1"]) as names, connections() as seen:
        with fetching(victim.port, lookup=names.lookup, allowed_networks=(), fetch_attempts=3) as rig:
            with pytest.raises(MissionFailed) as caught:
                rig.fetch(victim.url("/ok", NAME))
            assert rig.attempts == ["connection_failed", "blocked_address"]
        assert caught.value.reason is Reason.BLOCKED_ADDRESS
        assert names.queries == 2
        assert seen == [(PUBLIC, victim.port)]
    assert not victim.connections


def test_what_was_checked_is_what_is_connected_to(victim: MisbehavingServer) -> None:
    with NameServer([PUBLIC], ["127.0.0.1"]) as names, connections() as seen:
        with fetching(victim.port, lookup=names.lookup, allowed_networks=()) as rig, pytest.raises(MissionFailed):
            rig.fetch(victim.url("/ok", NAME))
        assert names.queries == 1
        assert seen == [(PUBLIC, victim.port)]
    assert not victim.connections


@pytest.mark.usefixtures("forgetful")
def test_a_redirect_to_the_same_name_is_checked_again(victim: MisbehavingServer) -> None:
    # 127.0.0.1 represents the public address here: it is the only allowed address.
    with NameServer(["127.0.0.1"], ["127.0.0.2"]) as names, connections() as seen:
        with fetching(victim.port, lookup=names.lookup) as rig, pytest.raises(MissionFailed) as caught:
            rig.fetch(victim.url("/redirect?to=/ok", NAME))
        assert caught.value.reason is Reason.BLOCKED_ADDRESS
        assert names.queries == 2
        assert seen == [("127.0.0.1", victim.port)]


@pytest.mark.usefixtures("forgetful")
def test_a_kept_connection_does_not_outlive_its_check(victim: MisbehavingServer) -> None:
    with NameServer(["127.0.0.1"], ["127.0.0.2"]) as names, fetching(victim.port, lookup=names.lookup) as rig:
        rig.fetch(victim.url("/ok", NAME))
        with pytest.raises(MissionFailed) as caught:
            rig.fetch(victim.url("/ok", NAME))
        assert caught.value.reason is Reason.BLOCKED_ADDRESS
    assert victim.hits["/ok"] == 1


@pytest.mark.parametrize("answer", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC]])
def test_one_forbidden_address_among_public_ones_is_enough(victim: MisbehavingServer, answer: list[str]) -> None:
    with NameServer(answer) as names, connections() as seen:
        with fetching(victim.port, lookup=names.lookup, allowed_networks=()) as rig:
            with pytest.raises(MissionFailed) as caught:
                rig.fetch(victim.url("/ok", NAME))
            assert caught.value.reason is Reason.BLOCKED_ADDRESS
        assert not seen


@pytest.mark.parametrize(
    ("connect", "seconds", "reason"),
    [(0.5, 20.0, Reason.DNS_FAILURE), (60.0, 0.5, Reason.DEADLINE_EXCEEDED)],
)
def test_a_name_server_that_never_answers_holds_nobody_up(connect: float, seconds: float, reason: Reason) -> None:
    with NameServer(None) as names, connections() as seen:
        with fetching(80, lookup=names.lookup, allowed_hosts=(NAME,), connect_timeout=connect) as rig:
            started = time.monotonic()
            with pytest.raises(MissionFailed) as caught:
                rig.fetch(f"http://{NAME}/", seconds=seconds)
            assert time.monotonic() - started < 2
        assert caught.value.reason is reason
        assert not seen
