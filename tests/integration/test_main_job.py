"""The main job end to end: Valkey, worker processes, an HTTP site, apps that enqueue, a reader that opens results."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
import redis
from celery import Celery

from mission.errors import DecoderError, ResultUnavailable
from mission.model import Reason, State
from mission.operate.results import ResultReader
from mission.store.messages import RESULT_SECONDS
from mission.store.names import PREFIX
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite
from worker.local.stack import Child
from worker.settings import WorkerSettings


def hosts_of(site: SampleSite) -> str:
    return f"127.0.0.1:{site.port}"


def log_lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def scraped(worker: Child) -> str:
    """A worker's metrics as Prometheus would scrape them now."""
    port = next(line["server.port"] for line in log_lines(worker.log) if "server.port" in line)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def client_of_celery(url: str) -> Celery:
    """Another id each time: a client that asks twice under the same id may get the first answer twice."""
    return Celery("foreign", broker=url, backend=url, set_as_current=False)


def test_every_sample_document_ends_as_it_should(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, reader: ResultReader
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    tickets = [(sample, mission_client.enqueue(sample.url)) for sample in site.samples()]
    for sample, ticket in tickets:
        status = mission_client.wait(ticket.id, timeout=60)
        assert (status.state, status.secrets, status.reason) == (sample.state, sample.secrets, sample.reason), sample
        if status.state is State.SUCCEEDED:
            assert len(reader.reveal(ticket.id, reason="a test")) == sample.secrets
        else:
            with pytest.raises(ResultUnavailable):
                reader.reveal(ticket.id, reason="a test")


def test_the_secrets_that_a_reader_opens_are_those_of_the_document(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, reader: ResultReader
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    ticket = mission_client.enqueue(f"{site.url}/letter.txt")
    mission_client.wait(ticket.id, timeout=60)
    found = [(secret.category, secret.value) for secret in reader.reveal(ticket.id, reason="a test")]
    assert found[:2] == [("WAREHOUSE", "Pier 39, gate C"), ("PASSWORD", "correct-horse-battery-staple")]


def test_an_app_with_the_client_and_one_that_only_speaks_celery_work_side_by_side(
    mission_client: MissionClient,
    start_worker: StartWorker,
    site: SampleSite,
    settings: WorkerSettings,
    reader: ResultReader,
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    url = settings.redis_url.get_secret_value()
    foreign = client_of_celery(url)
    own = mission_client.enqueue(f"{site.url}/letter.txt")
    pending = foreign.send_task("decoder.submit", args=[f"{site.url}/map.txt"], queue="missions")
    ticket = pending.get(timeout=60)
    assert ticket["id"] == pending.id
    assert ticket["duplicate"] is False
    assert mission_client.wait(own.id, timeout=60).state is State.SUCCEEDED
    assert mission_client.wait(ticket["id"], timeout=60).state is State.SUCCEEDED
    answer = foreign.send_task("decoder.status", args=[ticket["id"]], queue="missions").get(timeout=60)
    assert (answer["state"], answer["secrets"]) == ("succeeded", 2)
    assert len(reader.reveal(ticket["id"], reason="a test")) == 2


def test_a_celery_client_that_sends_the_same_task_id_again_gets_the_same_mission(
    start_worker: StartWorker, site: SampleSite, settings: WorkerSettings, client: redis.Redis
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    url = settings.redis_url.get_secret_value()
    task_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    for duplicate in (False, True):
        foreign = client_of_celery(url)
        answer = foreign.send_task(
            "decoder.submit", args=[f"{site.url}/plain.txt"], queue="missions", task_id=task_id
        ).get(timeout=60)
        assert answer["duplicate"] is duplicate
        foreign.AsyncResult(task_id).forget()
    assert client.hget(PREFIX + "finished", "failed") is None


def test_a_celery_client_that_sends_a_known_id_with_another_url_is_told_of_the_conflict(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite, settings: WorkerSettings
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    url = settings.redis_url.get_secret_value()
    foreign = client_of_celery(url)
    of_the_client = mission_client.enqueue(f"{site.url}/letter.txt")
    of_a_task = foreign.send_task("decoder.submit", args=[f"{site.url}/letter.txt"], queue="missions")
    of_a_task.get(timeout=60)
    of_a_task.forget()
    for known in (of_the_client.id, of_a_task.id):
        pending = client_of_celery(url).send_task(
            "decoder.submit", args=[f"{site.url}/map.txt"], queue="missions", task_id=known
        )
        with pytest.raises(DecoderError, match="idempotency_conflict"):
            pending.get(timeout=60)


def test_a_celery_client_is_told_why_its_mission_is_refused(
    start_worker: StartWorker, site: SampleSite, settings: WorkerSettings
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    url = settings.redis_url.get_secret_value()
    foreign = client_of_celery(url)
    pending = foreign.send_task("decoder.submit", args=["https://user:secret@example.com/"], queue="missions")
    with pytest.raises(DecoderError, match="credentials_in_url"):
        pending.get(timeout=60)


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "takes"),
    [
        ("decoder.submit", [42], {}, "a URL"),
        ("decoder.submit", ["https://docs.example.com/"], {"colour": "sesame"}, "submitter"),
        ("decoder.status", ["sesame"], {}, "a mission id"),
    ],
)
def test_a_celery_client_that_asks_wrongly_is_told_what_the_task_takes(
    start_worker: StartWorker,
    site: SampleSite,
    settings: WorkerSettings,
    task: str,
    args: list[object],
    kwargs: dict[str, object],
    takes: str,
) -> None:
    worker = start_worker(allowed_hosts=hosts_of(site))
    foreign = client_of_celery(settings.redis_url.get_secret_value())
    pending = foreign.send_task(task, args=args, kwargs=kwargs, queue="missions")
    with pytest.raises(DecoderError, match=f"^malformed_message: {task} requires .*{takes}") as told:
        pending.get(timeout=20)
    assert "sesame" not in str(told.value) + worker.log.read_text()


def test_results_for_celery_clients_go_after_an_hour(
    start_worker: StartWorker, site: SampleSite, settings: WorkerSettings, client: redis.Redis
) -> None:
    start_worker(allowed_hosts=hosts_of(site))
    url = settings.redis_url.get_secret_value()
    foreign = client_of_celery(url)
    pending = foreign.send_task("decoder.submit", args=[f"{site.url}/plain.txt"], queue="missions")
    pending.get(timeout=60)
    assert 0 < client.ttl(f"celery-task-meta-{pending.id}") <= RESULT_SECONDS


def test_a_page_that_cannot_be_had_is_a_failed_mission_and_the_next_one_goes_on(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    start_worker(allowed_hosts=f"{hosts_of(site)},127.0.0.1:9", max_attempts="1", fetch_attempts="1")
    lost = mission_client.enqueue("http://127.0.0.1:9/nobody-listens")
    good = mission_client.enqueue(f"{site.url}/letter.txt")
    status = mission_client.wait(lost.id, timeout=60)
    assert (status.state, status.reason) == (State.DEAD, Reason.CONNECTION_FAILED)
    assert mission_client.wait(good.id, timeout=60).state is State.SUCCEEDED


def test_many_missions_are_shared_by_two_workers(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    for _ in range(2):
        start_worker(allowed_hosts=hosts_of(site), host_concurrency="16")
    verdicts = list(mission_client.enqueue_many(f"{site.url}/letter.txt?n={n}" for n in range(300)))
    assert len(verdicts) == 300
    wait_for(lambda: mission_client.stats().succeeded == 300, seconds=90, what="300 missions")
    stats = mission_client.stats()
    assert (stats.queued, stats.running, stats.retrying, stats.failed, stats.dead) == (0, 0, 0, 0, 0)


def test_a_worker_serves_what_it_did_as_metrics(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    worker = start_worker(allowed_hosts=hosts_of(site))
    for path in ("letter.txt", "plain.txt", "missing.txt"):
        mission_client.wait(mission_client.enqueue(f"{site.url}/{path}").id, timeout=60)
    wait_for(lambda: 'decoder_missions_total{outcome="failed",reason="http_client_error"} 1.0' in scraped(worker))
    text = scraped(worker)
    assert 'decoder_missions_total{outcome="succeeded",reason=""} 2.0' in text
    assert 'decoder_secrets_extracted_total{detector="marker"} 3.0' in text
    assert "decoder_empty_missions_total 1.0" in text
    assert re.search(r'decoder_queue_missions\{state="succeeded"\} 2\.0', text)
    assert "letter.txt" not in text


def test_one_log_line_tells_an_attempts_whole_story(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    worker = start_worker(allowed_hosts=hosts_of(site))
    ticket = mission_client.enqueue(f"{site.url}/letter.txt", submitter="team-a")
    mission_client.wait(ticket.id, timeout=60)
    wait_for(lambda: ticket.id in worker.log.read_text())
    (story,) = [
        line
        for line in log_lines(worker.log)
        if line.get("mission.id") == ticket.id and line.get("event.action") == "mission-attempt"
    ]
    assert story["mission.outcome"] == "succeeded"
    assert story["mission.attempt"] == 1
    assert story["mission.submitter"] == "team-a"
    assert story["mission.secrets"] == 3
    assert {f"mission.phase.{name}_seconds" for name in ("validate", "fetch", "extract", "seal")} <= set(story)


def test_a_workers_output_is_json_from_its_first_line_to_its_last(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    worker = start_worker(allowed_hosts=hosts_of(site), log_level="debug")
    mission_client.wait(mission_client.enqueue(f"{site.url}/plain.txt").id, timeout=60)
    worker.process.terminate()
    assert worker.process.wait(timeout=40) == 0
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert all({"@timestamp", "log.level", "log.logger", "message", "ecs.version"} <= line.keys() for line in lines)
    assert any(line["message"].startswith("shutting down") for line in lines)


def test_a_worker_ends_on_sigterm_and_gives_back_what_it_has_in_hand(
    mission_client: MissionClient, start_worker: StartWorker, site: SampleSite
) -> None:
    worker = start_worker(allowed_hosts=hosts_of(site))
    mission_client.wait(mission_client.enqueue(f"{site.url}/plain.txt").id, timeout=60)
    worker.process.terminate()
    assert worker.process.wait(timeout=40) == 0
    late = mission_client.enqueue(f"{site.url}/letter.txt")
    assert mission_client.status(late.id).state is State.QUEUED
    start_worker(allowed_hosts=hosts_of(site))
    assert mission_client.wait(late.id, timeout=60).state is State.SUCCEEDED


def test_submissions_by_message_can_be_switched_off(
    start_worker: StartWorker, site: SampleSite, settings: WorkerSettings, client: redis.Redis
) -> None:
    """The only entry point that puts a URL into the broker in clear."""
    start_worker(allowed_hosts=hosts_of(site), accept_submit="false")
    url = settings.redis_url.get_secret_value()
    foreign = client_of_celery(url)
    pending = foreign.send_task("decoder.submit", args=[f"{site.url}/letter.txt"], queue="missions")
    with pytest.raises(DecoderError, match="DECODER_ACCEPT_SUBMIT=false"):
        pending.get(timeout=60)
    assert not list(client.scan_iter(match=f"{PREFIX}m:*"))
    # The answer is sent before the acknowledgement.
    wait_for(lambda: not client.exists("missions", "unacked"), what="the message to be acknowledged")
