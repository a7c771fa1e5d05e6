"""One mission from its claim to its verdict, over a real fetcher and a real site."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mission.model import Reason, State
from mission.seal.sealing import open_secrets
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.store.ledger import Commit, Ledger, Release
from mission.url import parse_url
from tests.servers.misbehaving import MisbehavingServer
from tests.unit.worker.parts import Keys
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.local.sample_site import SampleSite
from worker.observe import logs, metrics
from worker.settings import WorkerSettings
from worker.work.hosts import FAILURES_TO_PAUSE, Hosts
from worker.work.pipeline import RETRY_BASE_SECONDS, RETRY_CAP_SECONDS, Pipeline


@pytest.fixture
def keys(ledger: Ledger, settings: WorkerSettings) -> Keys:
    return Keys(ledger, settings)


@pytest.fixture
def site() -> Iterator[SampleSite]:
    with SampleSite() as site:
        yield site


@pytest.fixture
def other_site() -> Iterator[MisbehavingServer]:
    """It redirects to wherever it is asked to."""
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def own(settings: WorkerSettings, keys: Keys, site: SampleSite, other_site: MisbehavingServer) -> WorkerSettings:
    """Settings that lead to the sites, with one try an attempt."""
    changes = {
        "allowed_hosts": (*(f"127.0.0.1:{port}" for port in (site.port, other_site.port, 1)), "169.254.169.254"),
        "allowed_schemes": ("http", "https"),
        "allowed_networks": ("127.0.0.1/32",),
        "recipient": keys.identity.recipient.text,
        "fetch_attempts": 1,
    }
    return WorkerSettings.from_env(redis_url=settings.redis_url, **changes)


@pytest.fixture
def hosts(ledger: Ledger) -> Hosts:
    return Hosts(ledger, 1)


@pytest.fixture
def pipeline(own: WorkerSettings, keys: Keys, hosts: Hosts) -> Iterator[Pipeline]:
    policy = UrlPolicy.from_settings(own)
    fetcher = Fetcher(own, policy, Resolver(), place=hosts.slot)
    yield Pipeline(own, keyring=keys.keyring, recipients=Recipients(own), policy=policy, fetcher=fetcher, hosts=hosts)
    fetcher.close()


def counted(metric: Any, *labels: str) -> float:
    found = metric.labels(*labels) if labels else metric
    return float(found._value.get())


def test_a_document_ends_as_a_commit_whose_record_only_the_reader_opens(
    pipeline: Pipeline, keys: Keys, site: SampleSite
) -> None:
    claim = keys.claim(f"{site.url}/letter.txt")
    verdict = pipeline.decode(claim)
    assert isinstance(verdict, Commit)
    assert (verdict.id, verdict.token, verdict.state, verdict.reason) == (claim.id, claim.token, State.SUCCEEDED, None)
    assert verdict.secrets == 3
    assert verdict.record is not None
    assert b"Pier 39" not in verdict.record
    secrets = open_secrets(keys.identity, verdict.record, mission_id=claim.id, token=claim.token)
    assert [secret.value for secret in secrets][:1] == ["Pier 39, gate C"]


def test_a_document_without_secrets_is_a_success_and_visible_as_such(
    pipeline: Pipeline, keys: Keys, site: SampleSite
) -> None:
    before = counted(metrics.EMPTY_MISSIONS)
    verdict = pipeline.decode(keys.claim(f"{site.url}/plain.txt"))
    assert isinstance(verdict, Commit)
    assert (verdict.state, verdict.secrets) == (State.SUCCEEDED, 0)
    assert counted(metrics.EMPTY_MISSIONS) == before + 1


def test_a_page_that_is_missing_ends_the_mission(pipeline: Pipeline, keys: Keys, site: SampleSite) -> None:
    verdict = pipeline.decode(keys.claim(f"{site.url}/missing.txt"))
    assert isinstance(verdict, Commit)
    assert (verdict.state, verdict.reason, verdict.record) == (State.FAILED, Reason.HTTP_CLIENT_ERROR, None)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://elsewhere.example/page", Reason.HOST_NOT_ALLOWED),
        ("http://127.0.0.1:2/page", Reason.PORT_NOT_ALLOWED),
        ("http://169.254.169.254/latest", Reason.BLOCKED_ADDRESS),
    ],
)
def test_what_policy_refuses_ends_the_mission_and_is_a_security_event(
    url: str, reason: Reason, pipeline: Pipeline, keys: Keys
) -> None:
    before = counted(metrics.SECURITY_EVENTS, reason.value)
    verdict = pipeline.decode(keys.claim(url))
    assert isinstance(verdict, Commit)
    assert (verdict.state, verdict.reason) == (State.FAILED, reason)
    assert counted(metrics.SECURITY_EVENTS, reason.value) == before + 1


def test_a_host_that_is_not_reached_is_tried_again_later(pipeline: Pipeline, keys: Keys) -> None:
    claim = keys.claim("http://127.0.0.1:1/page")
    verdict = pipeline.decode(claim)
    assert isinstance(verdict, Release)
    assert (verdict.id, verdict.token, verdict.reason) == (claim.id, claim.token, Reason.CONNECTION_FAILED)
    assert 0 <= verdict.delay_seconds <= RETRY_BASE_SECONDS


def test_the_delay_is_no_shorter_than_the_server_asked_for(
    pipeline: Pipeline, keys: Keys, site: SampleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, _high: low)
    verdict = pipeline.decode(keys.claim(f"{site.url}/busy.txt"))
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.HTTP_SERVER_ERROR
    assert verdict.delay_seconds == 1.0


def test_the_delay_grows_with_each_attempt_up_to_a_cap(
    pipeline: Pipeline, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    claim = keys.claim("http://127.0.0.1:1/page")
    delays = []
    for attempt in (1, 2, 3, 50):
        verdict = pipeline.decode(dataclasses.replace(claim, attempt=attempt))
        assert isinstance(verdict, Release)
        delays.append(verdict.delay_seconds)
    assert delays == [2, 4, 8, RETRY_CAP_SECONDS]


def test_a_mission_whose_host_is_busy_comes_back_unpenalised(
    pipeline: Pipeline, keys: Keys, site: SampleSite, hosts: Hosts
) -> None:
    url = f"{site.url}/letter.txt"
    claim = keys.claim(url)
    with hosts.slot(parse_url(url)):
        verdict = pipeline.decode(claim)
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.HOST_PAUSED
    assert verdict.reason.unpenalised
    assert verdict.delay_seconds > 0


def test_a_redirect_takes_a_place_at_the_host_where_it_leads(
    pipeline: Pipeline, keys: Keys, site: SampleSite, other_site: MisbehavingServer, hosts: Hosts
) -> None:
    url = other_site.url(f"/redirect?to={site.url}/letter.txt")
    claim = keys.claim(url)
    with hosts.slot(parse_url(f"{site.url}/")):
        verdict = pipeline.decode(claim)
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.HOST_PAUSED
    assert pipeline.decode(claim).reason is None


def test_a_dead_host_behind_a_redirect_is_paused_and_the_one_before_it_is_not(
    pipeline: Pipeline, keys: Keys, other_site: MisbehavingServer
) -> None:
    for _ in range(FAILURES_TO_PAUSE):
        verdict = pipeline.decode(keys.claim(other_site.url("/redirect?to=http://127.0.0.1:1/")))
        assert verdict.reason is Reason.CONNECTION_FAILED
    assert pipeline.decode(keys.claim("http://127.0.0.1:1/page")).reason is Reason.HOST_PAUSED
    assert pipeline.decode(keys.claim(other_site.url("/ok"))).reason is None


def test_no_fetch_outlives_its_mission(pipeline: Pipeline, keys: Keys, site: SampleSite) -> None:
    claim = keys.claim(f"{site.url}/letter.txt")
    verdict = pipeline.decode(dataclasses.replace(claim, expires_at_ms=claim.now_ms))
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.DEADLINE_EXCEEDED


def test_a_url_under_a_key_that_this_worker_lacks_is_left_to_another(
    pipeline: Pipeline, keys: Keys, site: SampleSite, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{site.url}/letter.txt?signature=sesame"
    claim = keys.claim(url)
    record = UrlKeyring.parse(generate_url_key()).encrypt(url, claim.id)
    verdict = pipeline.decode(dataclasses.replace(claim, url_record=record))
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.INTERNAL_ERROR
    assert "which DECODER_URL_KEY does not hold" in caplog.text
    assert "sesame" not in caplog.text


def test_an_unexpected_error_gives_the_mission_back_and_shows_its_kind_alone(
    pipeline: Pipeline, keys: Keys, site: SampleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def extract(document: object) -> None:
        raise ZeroDivisionError("the document said sesame")

    monkeypatch.setattr(pipeline, "_extract", extract)
    verdict = pipeline.decode(keys.claim(f"{site.url}/letter.txt"))
    assert isinstance(verdict, Release)
    assert verdict.reason is Reason.INTERNAL_ERROR
    assert "mission met an unexpected ZeroDivisionError" in [record.getMessage() for record in caplog.records]


def test_one_line_tells_how_an_attempt_went(
    pipeline: Pipeline, keys: Keys, site: SampleSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline.decode(keys.claim(f"{site.url}/letter.txt"))
    pipeline.decode(keys.claim("http://127.0.0.1:1/page"))
    good, bad = (vars(record) for record in caplog.records if record.name == "decoder.mission")
    assert (good["event.outcome"], good["mission.outcome"], good["mission.secrets"]) == ("success", "succeeded", 3)
    assert {f"mission.phase.{name}_seconds" for name in metrics.PHASES} <= good.keys()
    assert (bad["event.outcome"], bad["mission.outcome"]) == ("failure", "released")
    assert bad["mission.reason"] == "connection_failed"
    assert bad["mission.retry_in_seconds"] >= 0


def test_the_line_tells_by_which_entry_of_the_allowlist_it_was(
    pipeline: Pipeline, keys: Keys, site: SampleSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(logs.EcsFormatter())
    pipeline.decode(keys.claim(f"{site.url}/missing.txt"))
    pipeline.decode(keys.claim("https://elsewhere.example/page"))
    listed, unlisted = (json.loads(line) for line in caplog.text.splitlines())
    assert (listed["mission.reason"], listed["mission.allowed_by"]) == ("http_client_error", "127.0.0.1")
    assert unlisted["mission.reason"] == "host_not_allowed"
    assert "mission.allowed_by" not in unlisted


def test_every_phase_that_was_entered_is_timed(pipeline: Pipeline, keys: Keys) -> None:
    def entered(phase: str) -> float:
        return float(metrics.REGISTRY.get_sample_value("decoder_phase_duration_seconds_count", {"phase": phase}) or 0)

    before = {phase: entered(phase) for phase in metrics.PHASES}
    pipeline.decode(keys.claim("http://127.0.0.1:1/page"))
    assert {phase: entered(phase) - before[phase] for phase in metrics.PHASES} == {
        "validate": 1,
        "fetch": 1,
        "extract": 0,
        "seal": 0,
    }


def test_no_mission_stays_in_progress(pipeline: Pipeline, keys: Keys, site: SampleSite) -> None:
    pipeline.decode(keys.claim(f"{site.url}/letter.txt"))
    pipeline.decode(keys.claim("http://127.0.0.1:1/page"))
    assert counted(metrics.MISSIONS_IN_PROGRESS) == 0
