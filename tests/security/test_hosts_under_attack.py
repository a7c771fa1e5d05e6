"""One submitter's missions against a host that others need: nothing that a submitter chooses may pause a host that answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mission.model import Claim, Reason
from mission.store.ledger import Ledger
from tests.servers.certificates import Authority
from tests.servers.misbehaving import MisbehavingServer
from tests.unit.worker.parts import Keys
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.observe.logs import mission_context
from worker.settings import WorkerSettings
from worker.work.endings import Outcome
from worker.work.hosts import Hosts
from worker.work.memory import Memory
from worker.work.pipeline import Pipeline

HANDSHAKE_SECONDS = 0.06
# Limits around the end of the handshake: too early, too late, and in between.
LIFETIMES_MS = range(55, 91, 2)

Decode = Callable[[Claim], Outcome]


@pytest.fixture
def keys(ledger: Ledger, settings: WorkerSettings) -> Keys:
    return Keys(ledger, settings)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(authority.context("127.0.0.1"), handshake_seconds=HANDSHAKE_SECONDS) as server:
        yield server


@pytest.fixture
def decode(settings: WorkerSettings, keys: Keys, ledger: Ledger, authority: Authority) -> Decode:
    """A worker that may connect anywhere on loopback; each fetch opens a new connection."""
    own = WorkerSettings.from_env(
        redis_url=settings.redis_url,
        allowed_hosts=("127.0.0.1",),
        allowed_schemes=("http", "https"),
        allowed_networks=("127.0.0.1/32",),
        recipient=keys.identity.recipient.text,
        ca_file=authority.ca_file,
    )
    hosts, memory = Hosts(ledger, own.host_concurrency), Memory(own)

    def decode(claim: Claim) -> Outcome:
        hosts.refresh()
        policy = UrlPolicy(hosts=_ports_of(claim, keys), schemes=own.allowed_schemes, networks=own.allowed_networks)
        fetcher = Fetcher(own, policy, Resolver())
        pipeline = Pipeline(
            own,
            keyring=keys.keyring,
            recipients=Recipients(own),
            policy=policy,
            fetcher=fetcher,
            hosts=hosts,
            memory=memory,
        )
        try:
            with mission_context(claim.id, claim.attempt, claim.submitter):
                return pipeline.decode(claim)
        finally:
            fetcher.close()

    return decode


def _ports_of(claim: Claim, keys: Keys) -> tuple[str, ...]:
    return (keys.keyring.decrypt(claim.url_record, claim.id).split("/")[2],)


def attack(decode: Decode, keys: Keys, url: str) -> list[Reason | None]:
    """Run a stranger's missions to this URL, which expire about when the handshake ends; return how each ended."""
    reasons = []
    for milliseconds in LIFETIMES_MS:
        claim = keys.claim(url, submitter="stranger")
        claim = dataclasses.replace(claim, expires_at_ms=claim.now_ms + milliseconds)
        reasons.append(decode(claim).reason)
    return reasons


def test_missions_that_expire_during_the_handshake_do_not_pause_the_host(
    decode: Decode, keys: Keys, server: MisbehavingServer
) -> None:
    assert Reason.DEADLINE_EXCEEDED in attack(decode, keys, server.url("/ok"))
    claims = [keys.claim(server.url("/ok"), submitter="app") for _ in range(30)]
    with ThreadPoolExecutor(4) as pool:
        assert [outcome.reason for outcome in pool.map(decode, claims)] == [None] * 30
