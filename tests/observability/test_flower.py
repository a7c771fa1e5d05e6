"""Flower in a real browser and by its API: closed without the password; with it, only ids, workers and queues."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from celery import Celery
from celery.utils.saferepr import saferepr

from mission.ids import new_mission_id
from mission.model import State, Ticket
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from tests.chart.rendering import environment, render
from tests.conftest import wait_for
from tests.observability.browser import WINDOW, opened
from tests.security.canary_site import CanarySite
from tests.security.traces import Canaries
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import FLOWER_OPTIONS, Child, Flower, running_flower, running_worker
from worker.queue.tasks import as_text

pytestmark = pytest.mark.full


@dataclass(frozen=True, slots=True)
class Seen:
    """The data that Flower may show, and access to its pages."""

    flower: Flower
    worker: Child
    client: MissionClient
    redis_url: str
    site: CanarySite
    canaries: Canaries
    mission: str
    submitted: str
    beginning: str  # of its log, after it had received every event

    def api(self, path: str, *, login: str | None = None, data: bytes | None = None) -> Any:
        """The API's response."""
        return json.loads(self.raw(path, login=login, data=data))

    def raw(self, path: str, *, login: str | None = None, data: bytes | None = None) -> bytes:
        """Any page's response; `login` is by default the right one; empty means no login."""
        login = self.flower.login if login is None else login
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        request = urllib.request.Request(self.flower.url + path, headers=headers, data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def page(self, path: str, *, size: tuple[int, int] = WINDOW) -> str:
        """A page in the browser."""
        return opened(self.flower.url + path, login=self.flower.login, size=size)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A worker that processed two missions, and a Flower that knows it."""
    folder = tmp_path_factory.mktemp("flower")
    canaries = Canaries()
    with ExitStack() as pieces:
        server, site = pieces.enter_context(EmbeddedRedis()), pieces.enter_context(CanarySite(canaries))
        url_key = generate_url_key()
        values = {
            "url_key": url_key,
            "recipient": Identity.generate().recipient.text,
            "allowed_hosts": f"127.0.0.1:{site.port}",
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.1/32",
            "metrics_host": "127.0.0.1",
            "metrics_port": "0",
            "log_level": "info",
        }
        logins = {name: values | {"redis_url": server.login_url(name)} for name in ("flower", "worker")}
        flower = pieces.enter_context(running_flower(_folder(folder, "flower"), logins["flower"]))
        worker = pieces.enter_context(running_worker(_folder(folder, "worker"), logins["worker"]))
        worker.wait_until(r"\bready\b")
        client = MissionClient(Settings.from_env(redis_url=server.url, url_key=url_key))
        mission = client.enqueue(site.url("document")).id
        foreign = Celery("foreign", broker=server.url, backend=server.url, set_as_current=False)
        submitted = foreign.send_task("decoder.submit", args=[site.url("document")], queue="missions").id
        wait_for(lambda: client.stats().succeeded == 2, what="both missions")
        found = Seen(flower, worker, client, server.url, site, canaries, mission, submitted, "")
        wait_for(
            lambda: [task["state"] for task in found.api("/api/tasks").values()] == ["SUCCESS"] * 3,
            what="Flower to hear how they ended",
        )
        wait_for(lambda: b"flower_worker_online" in found.raw("/metrics"), what="a heartbeat")
        yield replace(found, beginning=flower.child.log.read_text(encoding="utf-8"))


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def backlog(seen: Seen) -> Iterator[int]:
    """Let this many messages wait while the worker is stopped. Only briefly: otherwise it would count as gone."""
    os.killpg(seen.worker.process.pid, signal.SIGSTOP)
    try:
        for _ in range(7):
            seen.client.enqueue(seen.site.url("document"))
        with redis.Redis.from_url(seen.redis_url) as server:
            yield cast("int", server.llen("missions"))
    finally:
        os.killpg(seen.worker.process.pid, signal.SIGCONT)
        wait_for(lambda: seen.client.stats().queued == 0, what="the missions that waited")


@pytest.mark.parametrize("login", ["", "decoder:guess"])
def test_a_browser_without_the_password_sees_nothing(login: str, seen: Seen) -> None:
    for path in ("/", "/workers", "/tasks", "/broker", f"/task/{seen.submitted}", "/api/tasks"):
        shown = opened(seen.flower.url + path, login=login)
        assert re.sub(r"<[^>]*>", "", shown).strip() in ("", "Access denied"), path


@pytest.mark.parametrize(
    "path",
    ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length", "/api/task/types"],
)
def test_every_page_and_answer_asks_for_the_password(path: str, seen: Seen) -> None:
    for login in ("", "decoder:guess"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            seen.raw(path, login=login)
        refusal.value.close()
        assert refusal.value.code == 401


def test_the_browser_shows_the_worker_and_what_it_did(seen: Seen) -> None:
    shown = seen.page("/workers")
    assert re.search(r'id="workers-online">1<', shown)
    succeeded = re.search(r'id="workers-succeeded">(\d+)<', shown)
    assert succeeded
    assert int(succeeded[1]) >= 3
    assert re.search(r'href="/worker/decoder-\d+(@|%40)', shown)


def test_it_starts_without_a_warning(seen: Seen) -> None:
    assert "Visit me" in seen.beginning
    assert [line for line in seen.beginning.splitlines() if not line.startswith(("[I ", " "))] == []


def test_a_running_workers_page_shows_what_its_heartbeats_tell(seen: Seen) -> None:
    (worker,) = seen.api("/workers?json=1")["data"]
    shown = " ".join(re.sub(r"<[^>]*>", " ", seen.page(f"/worker/{worker['hostname']}")).split())
    assert "Unknown worker" not in shown
    assert f"Worker PID {worker['pid']} " in shown
    assert re.search(r"Messages in flight 0 Messages done [1-9]\d* Load average [\d.]+", shown)
    assert "missions" in shown  # its queue
    assert "accepts no remote control" in shown


def test_the_page_of_a_worker_that_is_not_there_says_so(seen: Seen) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        seen.raw("/worker/decoder-1@nowhere")
    refusal.value.close()
    assert refusal.value.code == 404


def test_the_browser_shows_tasks_and_on_a_tasks_own_page_the_ids_of_its_missions(seen: Seen) -> None:
    shown = seen.page("/tasks")
    assert seen.submitted in shown
    assert shown.count("SUCCESS") >= 3
    (task,) = seen.api(f"/api/tasks?search=args:{seen.mission}")
    assert task in shown
    own = seen.page(f"/task/{task}")
    assert "decoder.decode" in own
    assert seen.mission in own


def test_no_column_of_tasks_and_workers_is_cut_off_in_a_window_of_1500_pixels(tmp_path: Path) -> None:
    pod = "decoder-1@decoder-worker-7d9f8b6c5d-xw8kz"
    task, result = new_mission_id(), saferepr(as_text(Counter(succeeded=14, failed=2)))
    with EmbeddedRedis() as server:
        values = {"redis_url": server.login_url("flower")}
        with (
            running_flower(_folder(tmp_path, "flower"), values) as flower,
            Celery("worker", broker=server.url, set_as_current=False) as worker,
            worker.connection() as connection,
            worker.events.Dispatcher(connection, hostname=pod) as events,
            redis.Redis.from_url(server.url) as client,
        ):
            wait_for(client.pubsub_numpat, what="Flower to listen")
            events.send("worker-heartbeat", active=16, processed=123_456, loadavg=[10.25, 10.5, 10.75])
            events.send("task-received", uuid=task, name="decoder.decode", args="(...)", kwargs="{...}")
            events.send("task-started", uuid=task)
            events.send("task-succeeded", uuid=task, result=result, runtime=1.25)
            tasks, workers = (
                opened(flower.url + path, login=flower.login, size=(1500, 800)) for path in ("/tasks", "/workers")
            )
    for text in (f'title="{pod}"', f">{task}<", f">{result}<", ">SUCCESS<"):
        assert text in tasks
    for text in (f'title="{pod}"', ">10.75<", ">Online<"):
        assert text in workers
    for shown in (tasks, workers):
        # DataTables records the table's width; the card around it is 50 px narrower than the window.
        (width,) = re.findall(r'dataTables_scrollHeadInner" style="[^"]*width: ([\d.]+)px', shown)
        assert 1000 < float(width) <= 1450


def test_a_message_whose_missions_failed_says_so(seen: Seen) -> None:
    tickets = seen.client.enqueue_many([seen.site.url("document"), seen.site.url("missing")])
    document, missing = (cast("Ticket", ticket).id for ticket in tickets)
    assert seen.client.wait(missing, timeout=30).state is State.FAILED
    wait_for(lambda: seen.api(f"/api/tasks?search=args:{document}%20state:SUCCESS"), what="the message in Flower")
    (task_id,) = seen.api(f"/api/tasks?search=args:{missing}%20result:failed")
    shown = seen.page(f"/task/{task_id}")
    assert "1 succeeded, 1 failed" in shown
    assert "1 succeeded, 1 failed" in seen.page("/tasks")
    (whole,) = seen.api(f"/api/tasks?search=args:{seen.mission}").values()
    assert whole["result"] == "'1 succeeded'"


def test_page_and_api_tell_how_long_the_queue_is(seen: Seen, backlog: int) -> None:
    assert backlog >= 6  # one may be on its way to the worker already
    assert re.search(rf"<td[^>]*>missions</td>\s*<td[^>]*>{backlog}</td>", seen.page("/broker"))
    lengths = {queue["name"]: queue["messages"] for queue in seen.api("/api/queues/length")["active_queues"]}
    assert lengths == {"missions-high": 0, "missions": backlog, "missions-low": 0}


def test_a_mission_is_found_by_its_id(seen: Seen) -> None:
    (task,) = seen.api(f"/api/tasks?search=args:{seen.mission}").values()
    assert (task["name"], task["args"], task["state"]) == ("decoder.decode", f"({seen.mission})", "SUCCESS")


def test_workers_and_what_they_have_in_hand_are_found_by_program(seen: Seen) -> None:
    (worker,) = seen.api("/workers?json=1")["data"]
    assert (worker["status"], type(worker["active"])) == (True, int)
    query = f"worker:{worker['hostname']}%20state:SUCCESS"
    assert len(seen.api(f"/api/tasks?search={query}")) >= 3


def test_a_submission_by_message_is_found_by_its_id_and_does_not_tell_its_url(seen: Seen) -> None:
    task = seen.api(f"/api/task/info/{seen.submitted}")
    assert (task["name"], task["args"], task["kwargs"]) == ("decoder.submit", "(...)", "{...}")


def test_its_own_metrics_are_there_for_a_scrape_and_name_nothing_but_workers_events_and_tasks(seen: Seen) -> None:
    text = seen.raw("/metrics", login="").decode()
    assert re.search(r'flower_worker_online\{worker="decoder-\d+@[^"]+"\} 1\.0', text)
    assert set(re.findall(r'flower_events_total\{.*task="([^"]*)"', text)) == {"decoder.decode", "decoder.submit"}


def test_no_url_and_no_secret_stands_in_any_page_or_answer(seen: Seen) -> None:
    ids = list(seen.api("/api/tasks"))[:4]
    (worker,) = {task["worker"] for task in seen.api("/api/tasks").values()}
    pages = [seen.page(path) for path in ("/workers", "/tasks", "/broker", f"/worker/{worker}")]
    pages += [seen.page(f"/task/{task_id}") for task_id in ids]
    answers = [
        seen.raw(path)
        for path in (
            "/api/tasks",
            "/api/workers",
            "/workers?json=1",
            "/api/queues/length",
            "/api/task/types",
            "/metrics",
            *(f"/api/task/info/{task_id}" for task_id in ids),
        )
    ]
    assert len(ids) >= 3
    assert worker in pages[0]
    assert seen.canaries.found_in("\n".join(pages).encode() + b"\n".join(answers)) == set()


@pytest.mark.parametrize(
    "path",
    ["/api/task/send-task/decoder.decode", "/api/task/async-apply/decoder.decode", "/api/worker/shutdown/celery@here"],
)
def test_nothing_can_be_sent_through_it(path: str, seen: Seen) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        seen.raw(path, data=b'{"args": []}')
    refusal.value.close()
    assert refusal.value.code == 403


def test_the_chart_starts_it_with_the_same_options() -> None:
    (flower,) = [
        item
        for item in render(environment("staging"))
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "decoder-flower"
    ]
    (container,) = flower["spec"]["template"]["spec"]["containers"]
    assert set(FLOWER_OPTIONS) <= set(container["args"])
