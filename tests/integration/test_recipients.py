"""Several readers, and keys that change while a worker runs: each reader opens only its own results, and no result is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import SealError
from mission.model import State
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.names import Key
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

SECRETS = 3  # of letter.txt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recipients"
    folder.mkdir()
    return folder


def publish(folder: Path, team: str, identity: Identity) -> None:
    """Replace a team's public key as an operator should: by a rename, so that a key is always there."""
    new = folder / f"{team}.new"
    new.write_text(identity.recipient.text + "\n")
    os.replace(new, folder / f"{team}.pub")


@pytest.fixture
def reader_of(client: redis.Redis) -> Callable[[Identity], ResultReader]:
    return lambda identity: ResultReader(client, [identity], AuditLog(client, emit=lambda line: None))


ReaderOf = Callable[[Identity], ResultReader]


def opens(reader: ResultReader, mission_id: str) -> bool:
    try:
        return len(reader.reveal(mission_id, reason="a test")) == SECRETS
    except SealError:
        return False


def test_a_team_opens_its_own_results_and_no_other_teams(
    mission_client: MissionClient,
    start_worker: StartWorker,
    site: SampleSite,
    folder: Path,
    keys: Keys,
    reader_of: ReaderOf,
) -> None:
    readers = {"team-a": Identity.generate(), "team-b": Identity.generate(), "nobody-special": keys.identity}
    for team in ("team-a", "team-b"):
        publish(folder, team, readers[team])
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}", recipients=str(folder))
    missions = {team: mission_client.enqueue(f"{site.url}/letter.txt", submitter=team).id for team in readers}
    for team, mission_id in missions.items():
        assert mission_client.wait(mission_id, timeout=60).state is State.SUCCEEDED
        allowed = {name for name, identity in readers.items() if opens(reader_of(identity), mission_id)}
        assert allowed == {team}


def test_a_key_is_exchanged_while_the_worker_runs_and_both_generations_open(
    mission_client: MissionClient,
    start_worker: StartWorker,
    site: SampleSite,
    folder: Path,
    reader_of: ReaderOf,
    client: redis.Redis,
) -> None:
    old, new = Identity.generate(), Identity.generate()
    publish(folder, "team-a", old)
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", recipients=str(folder))
    missions: list[str] = []

    def one_more() -> str:
        ticket = mission_client.enqueue(f"{site.url}/letter.txt", submitter="team-a")
        assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
        missions.append(ticket.id)
        return ticket.id

    assert opens(reader_of(old), one_more())
    publish(folder, "team-a", new)
    wait_for(lambda: opens(reader_of(new), one_more()), what="a result sealed to the new key")
    generations = [(opens(reader_of(old), id_), opens(reader_of(new), id_)) for id_ in missions]
    # Each result opens with exactly one of the two keys, and the old one is not used again after the new one.
    assert generations == sorted(generations, reverse=True)
    assert set(generations) == {(True, False), (False, True)}
    old_id, new_id = (identity.key_id.hex() for identity in (old, new))
    keys = AuditLog(client, chain=Key.AUDIT_KEYS)

    def recorded() -> list[str | None]:
        return [entry.key_id for entry in keys.entries() if entry.why == "DECODER_RECIPIENTS, team-a.pub"]

    wait_for(lambda: recorded() == [f"none>{old_id}", f"{old_id}>{new_id}"], what="the change on record")
    assert keys.verify(worker.log.read_text().splitlines()) == []
    client.delete(Key.AUDIT_KEYS)
    assert keys.verify(worker.log.read_text().splitlines()) != []
    assert worker.process.poll() is None


def test_a_key_that_turns_bad_loses_nothing_and_is_logged_once(
    mission_client: MissionClient,
    start_worker: StartWorker,
    site: SampleSite,
    folder: Path,
    reader_of: ReaderOf,
) -> None:
    identity = Identity.generate()
    publish(folder, "team-a", identity)
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", recipients=str(folder))
    (folder / "team-a.pub").write_text("decoder-recipient:half a ke")

    def noticed() -> bool:
        ticket = mission_client.enqueue(f"{site.url}/letter.txt", submitter="team-a")
        assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
        assert opens(reader_of(identity), ticket.id)
        return "DECODER_RECIPIENTS: " in worker.log.read_text()

    wait_for(noticed, what="the worker to notice the bad key")
    assert noticed()
    assert worker.log.read_text().count("DECODER_RECIPIENTS: ") == 1


def test_missions_queued_under_the_old_url_key_are_worked_after_its_exchange(
    settings: Settings, start_worker: StartWorker, site: SampleSite, keys: Keys
) -> None:
    """First workers get the new key, then producers use it. The old key is removed when nothing is encrypted with it."""
    old, new = keys.url_key, generate_url_key()

    def enqueue(url_key: str) -> str:
        client = MissionClient(Settings.from_env(redis_url=settings.redis_url, url_key=url_key))
        return client.enqueue(f"{site.url}/letter.txt").id

    before, after = enqueue(old), enqueue(f"{new},{old}")
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}", url_key=f"{new},{old}")
    client = MissionClient(Settings.from_env(redis_url=settings.redis_url, url_key=new))
    for mission_id in (before, after):
        assert client.wait(mission_id, timeout=60).state is State.SUCCEEDED


def test_an_idempotency_key_stands_for_the_same_mission_across_the_exchange(
    settings: Settings, client: redis.Redis, keys: Keys
) -> None:
    new = generate_url_key()
    tickets = [
        MissionClient(Settings.from_env(redis_url=settings.redis_url, url_key=url_key)).enqueue(
            "https://docs.example.com/page", idempotency_key="page-1"
        )
        for url_key in (keys.url_key, f"{new},{keys.url_key}")
    ]
    assert tickets[0].id == tickets[1].id
    assert tickets[1].duplicate


def test_a_worker_without_the_key_of_a_mission_leaves_it_to_others(
    settings: Settings, mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, keys: Keys
) -> None:
    """A rollout mixes both: a worker that cannot read a mission must not fail it."""
    ticket = mission_client.enqueue(f"{site.url}/letter.txt")
    unknowing = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", url_key=generate_url_key())
    wait_for(lambda: "which is not in DECODER_URL_KEY" in unknowing.log.read_text(), what="the refusal")
    unknowing.process.terminate()
    unknowing.process.wait(timeout=60)
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}", url_key=keys.url_key)
    assert mission_client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
