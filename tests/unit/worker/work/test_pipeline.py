"""One mission from its claim to its outcome, over a real fetcher and a real site."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mission.model import Extraction, Priority, Reason
from mission.seal.sealing import open_secrets
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.store.ledger import Ledger
from mission.url import MissionUrl, parse_url
from tests.servers.misbehaving import MisbehavingServer
from tests.servers.proxies import PlayingProxy, refuses
from tests.unit.worker.parts import Keys
from worker.extract import Extractor, apart
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher, Visit
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.local.sample_site import SampleSite
from worker.observe import logs, metrics
from worker.observe.logs import mission_context
from worker.settings import WorkerSettings
from worker.work.hosts import FAILURES_TO_PAUSE, WAY_OUT, Hosts
from worker.work.memory import Memory
from worker.work.pipeline import Pipeline


@pytest.fixture
def site() -> Iterator[SampleSite]:
    with SampleSite() as site:
        yield site


@pytest.fixture
def other_site() -> Iterator[MisbehavingServer]:
    """It redirects to any requested target."""
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def own(settings: WorkerSettings, keys: Keys, site: SampleSite, other_site: MisbehavingServer) -> WorkerSettings:
    """Settings that reach the sites, with one try per attempt."""
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


@pytest.fixture(autouse=True)
def _within_a_mission() -> Iterator[None]:
    with mission_context("…", 1, "app"):
        yield


@pytest.fixture
def pipeline(own: WorkerSettings, keys: Keys, hosts: Hosts) -> Pipeline:
    return pipeline_of(own, keys, hosts)


def pipeline_of(own: WorkerSettings, keys: Keys, hosts: Hosts) -> Pipeline:
    policy = UrlPolicy.from_settings(own)
    fetcher = Fetcher(own, policy, Resolver())
    return Pipeline(
        own,
        keyring=keys.keyring,
        recipients=Recipients(own),
        policy=policy,
        fetcher=fetcher,
        hosts=hosts,
        memory=Memory(own),
    )


def slots_taken(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The submitter and urgency of each host slot taken from now on."""
    slot, taken = hosts.slot, list[tuple[str, bool]]()

    def noting(url: MissionUrl, submitter: str, *, urgent: bool) -> AbstractContextManager[Visit]:
        taken.append((submitter, urgent))
        return slot(url, submitter, urgent=urgent)

    monkeypatch.setattr(hosts, "slot", noting)
    return taken


def counted(metric: Any, *labels: str) -> float:
    found = metric.labels(*labels) if labels else metric
    return float(found._value.get())


def tried(result: str) -> float:
    return counted(metrics.FETCH_ATTEMPTS, result)


def test_a_document_ends_as_a_record_that_only_the_reader_opens(
    pipeline: Pipeline, keys: Keys, site: SampleSite
) -> None:
    claim, before = keys.claim(f"{site.url}/letter.txt"), tried("ok")
    outcome = pipeline.decode(claim)
    assert (outcome.reason, outcome.found) == (None, {"marker": 3})
    assert outcome.record is not None
    assert b"Pier 39" not in outcome.record
    secrets = open_secrets(keys.identity, outcome.record, mission_id=claim.id, token=claim.token)
    assert [secret.value for secret in secrets][:1] == ["Pier 39, gate C"]
    assert set(outcome.phases) == set(metrics.PHASES)
    assert tried("ok") == before + 1


def test_the_search_of_a_document_ends_with_its_missions_deadline(
    pipeline: Pipeline, keys: Keys, site: SampleSite, own: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    extract = Extractor.extract

    def noted(extractor: Extractor, body: bytes, content_type: str | None, deadline: float) -> Extraction:
        given.append(deadline)
        return extract(extractor, body, content_type, deadline)

    monkeypatch.setattr(Extractor, "extract", noted)
    began = time.monotonic()
    pipeline.decode(keys.claim(f"{site.url}/letter.txt"))
    assert began < given[0] <= time.monotonic() + own.deadline


def test_whether_rules_came_compiled_is_a_gauge(own: WorkerSettings, keys: Keys, hosts: Hosts, tmp_path: Path) -> None:
    own = own.model_copy(update={"detectors": ("marker", "generic"), "rules_cache": tmp_path / "cache"})
    for cached in (0, 1):
        pipeline_of(own, keys, hosts)
        assert counted(metrics.RULES_CACHED, "generic") == cached


def test_a_document_without_secrets_is_a_success_with_nothing_to_store(
    pipeline: Pipeline, keys: Keys, site: SampleSite
) -> None:
    outcome = pipeline.decode(keys.claim(f"{site.url}/plain.txt"))
    assert (outcome.reason, outcome.found.total(), outcome.record) == (None, 0, None)


def test_a_suspects_document_is_extracted_in_a_process_of_its_own(
    pipeline: Pipeline,
    keys: Keys,
    site: SampleSite,
    other_site: MisbehavingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, large = keys.claim(f"{site.url}/letter.txt"), keys.claim(other_site.url("/doc?size=4000000"))
    suspect = dataclasses.replace(claim, suspect=True)
    assert pipeline.decode(suspect).found == {"marker": 3}
    assert pipeline.decode(dataclasses.replace(large, suspect=True)).reason is None, "it has the memory that it needs"
    monkeypatch.setattr(apart, "PROGRAM", "import os; os.write(1, b'ready\\n'); os.abort()")
    assert pipeline.decode(suspect).reason is Reason.EXTRACTION_CRASHED
    assert pipeline.decode(claim).found == {"marker": 3}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://elsewhere.example/page", Reason.HOST_NOT_ALLOWED),
        ("http://127.0.0.1:2/page", Reason.PORT_NOT_ALLOWED),
        ("http://169.254.169.254/latest", Reason.BLOCKED_ADDRESS),
    ],
)
def test_what_policy_refuses_is_not_fetched(url: str, reason: Reason, pipeline: Pipeline, keys: Keys) -> None:
    outcome = pipeline.decode(keys.claim(url))
    assert (outcome.reason, outcome.record, set(outcome.phases)) == (reason, None, {"validate"})


def test_what_a_server_asks_for_is_told_with_the_reason(pipeline: Pipeline, keys: Keys, site: SampleSite) -> None:
    outcome = pipeline.decode(keys.claim(f"{site.url}/busy.txt"))
    assert (outcome.reason, outcome.retry_after) == (Reason.HTTP_SERVER_ERROR, 1.0)


def test_each_try_within_an_attempt_is_counted_with_how_it_ended(own: WorkerSettings, keys: Keys, hosts: Hosts) -> None:
    pipeline = pipeline_of(own.model_copy(update={"fetch_attempts": 3}), keys, hosts)
    before = tried("connection_failed")
    outcome = pipeline.decode(keys.claim("http://127.0.0.1:1/page"))
    assert (outcome.reason, set(outcome.phases)) == (Reason.CONNECTION_FAILED, {"validate", "fetch"})
    assert tried("connection_failed") == before + 3


def test_a_mission_whose_host_is_busy_comes_back_later_and_was_no_try(
    pipeline: Pipeline, keys: Keys, site: SampleSite, hosts: Hosts
) -> None:
    url = f"{site.url}/letter.txt"
    claim = keys.claim(url)
    with hosts.slot(parse_url(url), "app"):
        outcome = pipeline.decode(claim)
    assert outcome.reason is Reason.HOST_BUSY
    assert outcome.retry_after is not None
    assert outcome.retry_after > 0
    assert tried("host_busy") == 0


def test_a_redirect_takes_a_place_at_the_host_where_it_leads(
    pipeline: Pipeline, keys: Keys, site: SampleSite, other_site: MisbehavingServer, hosts: Hosts
) -> None:
    url = other_site.url(f"/redirect?to={site.url}/letter.txt")
    claim = keys.claim(url)
    with hosts.slot(parse_url(f"{site.url}/"), "app"):
        assert pipeline.decode(claim).reason is Reason.HOST_BUSY
    assert tried("host_busy") == 0
    assert pipeline.decode(claim).reason is None


def test_a_dead_host_behind_a_redirect_is_paused_and_the_one_before_it_is_not(
    pipeline: Pipeline, keys: Keys, other_site: MisbehavingServer
) -> None:
    for _ in range(FAILURES_TO_PAUSE):
        outcome = pipeline.decode(keys.claim(other_site.url("/redirect?to=http://127.0.0.1:1/")))
        assert outcome.reason is Reason.CONNECTION_FAILED
    assert pipeline.decode(keys.claim("http://127.0.0.1:1/page")).reason is Reason.HOST_PAUSED
    assert pipeline.decode(keys.claim(other_site.url("/ok"))).reason is None


def test_a_dead_proxy_puts_missions_off_and_pauses_no_host(
    own: WorkerSettings, keys: Keys, hosts: Hosts, site: SampleSite, ledger: Ledger
) -> None:
    url = f"{site.url}/letter.txt"
    changes = {"egress_proxy": SecretStr("http://127.0.0.1:1"), "fetch_attempts": 3}
    pipeline = pipeline_of(own.model_copy(update=changes), keys, hosts)
    before = tried("proxy_failed")
    for _ in range(FAILURES_TO_PAUSE):
        outcome = pipeline.decode(keys.claim(url))
        assert outcome.reason is Reason.PROXY_FAILED
        assert outcome.retry_after
    assert tried("proxy_failed") == before + FAILURES_TO_PAUSE, "not tried again within the attempt"
    outcome = pipeline.decode(keys.claim(url))
    assert (outcome.reason, outcome.host) == (Reason.PROXY_FAILED, WAY_OUT)
    assert tried("proxy_failed") == before + FAILURES_TO_PAUSE, "a paused proxy is not asked"
    assert ledger.hosts().keys() == {WAY_OUT}


def test_a_host_that_the_proxy_does_not_reach_is_paused_and_no_other(
    own: WorkerSettings, keys: Keys, hosts: Hosts
) -> None:
    with PlayingProxy(MisbehavingServer()) as proxy:
        proxy.manners["127.0.0.1"] = refuses("503 Service Unavailable")
        changes = {"egress_proxy": SecretStr(proxy.setting()), "allowed_hosts": ("127.0.0.1:1", "192.0.2.80")}
        changes |= {"allowed_networks": tuple(map(ip_network, ("127.0.0.1/32", "192.0.2.0/24")))}
        pipeline = pipeline_of(own.model_copy(update=changes), keys, hosts)
        for _ in range(FAILURES_TO_PAUSE):
            assert pipeline.decode(keys.claim("http://127.0.0.1:1/")).reason is Reason.PROXY_REFUSED
        assert pipeline.decode(keys.claim("http://127.0.0.1:1/")).reason is Reason.HOST_PAUSED
        assert pipeline.decode(keys.claim("http://192.0.2.80/ok")).reason is None


def test_the_tries_of_one_attempt_share_one_place_at_the_host(
    own: WorkerSettings, keys: Keys, hosts: Hosts, other_site: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a busy host would leave each attempt a single try."""
    taken = slots_taken(hosts, monkeypatch)
    pipeline = pipeline_of(own.model_copy(update={"fetch_attempts": 2}), keys, hosts)
    assert pipeline.decode(keys.claim(other_site.url("/flaky?times=1&code=503"))).reason is None
    assert taken == [("app", False)]


@pytest.mark.parametrize("priority", Priority)
def test_what_is_urgent_is_so_at_the_host_and_where_it_redirects_to(
    priority: Priority,
    pipeline: Pipeline,
    keys: Keys,
    hosts: Hosts,
    site: SampleSite,
    other_site: MisbehavingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = keys.claim(other_site.url(f"/redirect?to={site.url}/letter.txt"), submitter="other", priority=priority)
    taken = slots_taken(hosts, monkeypatch)
    assert pipeline.decode(claim).reason is None
    assert taken == [("other", priority is Priority.HIGH)] * 2


def test_the_tries_of_one_attempt_count_once_against_a_host_that_is_not_reached(
    own: WorkerSettings, keys: Keys, hosts: Hosts
) -> None:
    pipeline = pipeline_of(own.model_copy(update={"fetch_attempts": 3}), keys, hosts)
    for _ in range(FAILURES_TO_PAUSE - 1):
        assert pipeline.decode(keys.claim("http://127.0.0.1:1/page")).reason is Reason.CONNECTION_FAILED


def test_no_fetch_outlives_its_mission(pipeline: Pipeline, keys: Keys, site: SampleSite) -> None:
    claim = keys.claim(f"{site.url}/letter.txt")
    outcome = pipeline.decode(dataclasses.replace(claim, expires_at_ms=claim.now_ms))
    assert outcome.reason is Reason.DEADLINE_EXCEEDED


def test_a_url_under_a_key_that_this_worker_lacks_is_left_to_another(
    pipeline: Pipeline, keys: Keys, site: SampleSite, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{site.url}/letter.txt?signature=sesame"
    claim = keys.claim(url)
    record = UrlKeyring.parse(generate_url_key()).encrypt(url, claim.id)
    outcome = pipeline.decode(dataclasses.replace(claim, url_record=record))
    assert outcome.reason is Reason.INTERNAL_ERROR
    assert "which is not in DECODER_URL_KEY" in caplog.text
    assert "sesame" not in caplog.text


def test_an_unexpected_error_gives_the_mission_back_and_shows_its_kind_alone(
    pipeline: Pipeline, keys: Keys, site: SampleSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def extract(*_: object) -> None:
        raise ZeroDivisionError("the document said sesame")

    monkeypatch.setattr(pipeline, "_extract", extract)
    outcome = pipeline.decode(keys.claim(f"{site.url}/letter.txt"))
    assert outcome.reason is Reason.INTERNAL_ERROR
    assert "mission met an unexpected ZeroDivisionError" in [record.getMessage() for record in caplog.records]


def test_the_lines_of_a_mission_tell_by_which_entry_of_the_allowlist_it_was(
    pipeline: Pipeline, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(logs.EcsFormatter())
    pipeline.decode(keys.claim("https://elsewhere.example/page"))
    logging.getLogger("decoder.test").warning("unlisted")
    pipeline.decode(keys.claim("http://127.0.0.1:1/page"))
    logging.getLogger("decoder.test").warning("listed")
    unlisted, listed = (json.loads(line) for line in caplog.text.splitlines())
    assert "mission.allowed_by" not in unlisted
    assert listed["mission.allowed_by"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "entry", "reason"),
    [
        ("{site}/letter.txt", "127.0.0.1", None),
        ("http://127.0.0.1:1/page", "127.0.0.1", Reason.CONNECTION_FAILED),
        ("http://127.0.0.1:2/page", "127.0.0.1", Reason.PORT_NOT_ALLOWED),
        ("http://169.254.169.254/", "169.254.169.254", Reason.BLOCKED_ADDRESS),
        ("https://elsewhere.example/page", "", Reason.HOST_NOT_ALLOWED),
    ],
)
def test_an_outcome_names_the_entry_of_the_allowlist_however_it_went(
    path: str, entry: str, reason: Reason | None, pipeline: Pipeline, keys: Keys, site: SampleSite
) -> None:
    outcome = pipeline.decode(keys.claim(path.format(site=site.url)))
    assert (outcome.allowed_by, outcome.reason) == (entry, reason)


def test_each_entry_of_the_allowlist_has_its_series_from_the_start(pipeline: Pipeline) -> None:
    assert pipeline
    series = {
        (sample.labels["allowed_by"], sample.labels["outcome"])
        for family in metrics.ENTRY_MISSIONS.collect()
        for sample in family.samples
    }
    outcomes = ("found", "empty", "refused", "failed", "dead")
    assert {(entry, outcome) for entry in ("", "127.0.0.1", "169.254.169.254") for outcome in outcomes} <= series
