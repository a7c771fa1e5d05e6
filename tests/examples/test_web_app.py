from __future__ import annotations

import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from flask.testing import FlaskClient

from examples.web.app import create_app
from mission.audit.log import AuditLog
from mission.ids import new_mission_id
from mission.operate.results import ResultReader
from mission.settings import Settings
from mission.store.names import Key
from producer import MissionClient
from tests.conftest import wait_for
from tests.examples.conftest import NOWHERE, Examples
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

APP = "web/app.py"
URL = "https://docs.example.com/page"
SECRET = "correct-horse-battery-staple"


class Browser:
    """Looks at pages of a running app."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.address = ""

    def page(self, path: str, **form: str) -> str:
        """A page's text, after redirects; with a form, what it answers."""
        data = urllib.parse.urlencode(form).encode() if form else None
        with urllib.request.urlopen(urllib.parse.urljoin(self.home, path), data, timeout=30) as answer:
            self.address = answer.url
            return str(answer.read().decode())


@contextmanager
def serving(examples: Examples, *arguments: str) -> Iterator[tuple[Browser, list[str]]]:
    """The app as a process; what it logged is there at the end."""
    said: list[str] = []
    with examples.start(APP, "--port", "0", *arguments) as process:
        assert process.stdout is not None
        yield Browser(process.stdout.readline().strip()), said
        process.send_signal(signal.SIGINT)
        said += process.communicate(timeout=30)
        assert process.returncode == 0


def test_a_mission_is_enqueued_followed_and_read_for_a_reason(
    examples: Examples, start_worker: StartWorker, site: SampleSite, client: redis.Redis
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    with serving(examples, "--reader", "../reader.env") as (browser, said):
        browser.page("/missions", url=f"{site.url}/letter.txt?token=tell-no-one", key="k")
        mission = browser.address
        wait_for(lambda: ">succeeded<" in browser.page(mission), what="the mission")
        page = browser.page(mission)
        assert "<dd>3</dd>" in page
        assert SECRET not in page
        assert "http-equiv" not in page  # it is finished: no need to look again
        assert AuditLog(client).entries() == []
        assert SECRET in browser.page(mission, reason="a test")
        assert [entry.outcome for entry in AuditLog(client).entries()] == ["started", "opened"]
        style = browser.page("/static/style.css")
        assert "body" in style
    logged = "".join(said)
    assert "POST /missions HTTP/1.1" in logged
    assert "tell-no-one" not in logged
    assert SECRET not in logged


def test_without_a_reader_it_reads_nothing(examples: Examples, start_worker: StartWorker, site: SampleSite) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    with serving(examples) as (browser, _):
        browser.page("/missions", url=f"{site.url}/letter.txt")
        mission = browser.address
        wait_for(lambda: ">succeeded<" in browser.page(mission), what="the mission")
        assert "Read the secrets" not in browser.page(mission)
        with pytest.raises(urllib.error.HTTPError) as caught:
            browser.page(mission, reason="a test")
        assert caught.value.code == 403
        assert SECRET not in caught.value.read().decode()


def test_a_bad_setting_stops_the_start(examples: Examples) -> None:
    done = examples.run(APP, "--port", "0", DECODER_URL_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "text", [None, "", "DECODER_IDENTITY_FILE=/nowhere", "DECODER_REDIS_URL='", "DECODER_REDIS_URL=x"]
)
def test_a_bad_file_of_the_readers_stops_the_start(examples: Examples, text: str | None) -> None:
    if text is not None:
        (examples.folder / "bad.env").write_text(text)
    done = examples.run(APP, "--port", "0", "--reader", "bad.env", DECODER_IDENTITY_FILE="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def visitor(settings: Settings, reader: ResultReader | None = None, **changes: object) -> FlaskClient:
    """A browser before an app with these settings."""
    values = {"redis_url": settings.redis_url, "url_key": settings.url_key} | changes
    return create_app(MissionClient(Settings.from_env(**values)), reader).test_client()


def test_a_form_sent_twice_is_one_mission(producer_settings: Settings, mission_client: MissionClient) -> None:
    browser = visitor(producer_settings)
    form = re.search(r'name="key" value="([0-9a-f-]{36})"', browser.get("/").text)
    assert form
    answers = [browser.post("/missions", data={"url": URL, "key": form[1]}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].location == answers[1].location
    assert mission_client.stats().queued == 1
    assert browser.get(answers[0].location).text.count("http-equiv") == 1


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x/", "https://user:pa55@docs.example.com/", "<script>"])
def test_a_bad_url_is_a_bad_request_that_does_not_repeat_it(producer_settings: Settings, url: str) -> None:
    answer = visitor(producer_settings).post("/missions", data={"url": url})
    assert answer.status_code == 400
    assert "pa55" not in answer.text
    assert "<script>" not in answer.text


def test_a_form_without_its_field_is_a_bad_request(producer_settings: Settings) -> None:
    assert visitor(producer_settings).post("/missions").status_code == 400


def test_what_is_not_there_is_not_found(producer_settings: Settings, reader: ResultReader) -> None:
    browser = visitor(producer_settings, reader)
    assert browser.get("/missions/nonsense").status_code == 404
    assert browser.get(f"/missions/{new_mission_id()}").status_code == 404
    assert browser.post(f"/missions/{new_mission_id()}", data={"reason": "x"}).status_code == 404
    queued = browser.post("/missions", data={"url": URL}).location
    assert browser.post(queued, data={"reason": "x"}).status_code == 404
    assert browser.post(queued, data={"reason": " "}).status_code == 400


def test_a_key_of_another_url_is_a_conflict(producer_settings: Settings) -> None:
    browser = visitor(producer_settings)
    browser.post("/missions", data={"url": URL, "key": "k"})
    assert browser.post("/missions", data={"url": f"{URL}2", "key": "k"}).status_code == 409


def test_a_used_up_quota_says_when_to_come_back(producer_settings: Settings) -> None:
    browser = visitor(producer_settings, quota="1/hour")
    browser.post("/missions", data={"url": URL})
    answer = browser.post("/missions", data={"url": URL})
    assert answer.status_code == 429
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600


def test_a_full_queue_is_an_unavailable_service(producer_settings: Settings) -> None:
    browser = visitor(producer_settings, queue_limit=1)
    browser.post("/missions", data={"url": URL})
    answer = browser.post("/missions", data={"url": URL})
    assert answer.status_code == 503
    assert "queue_full" in answer.text


def test_that_redis_is_away_is_said_without_its_address(producer_settings: Settings, reader: ResultReader) -> None:
    browser = visitor(producer_settings, reader, redis_url=NOWHERE)
    answers = [
        browser.get("/"),
        browser.post("/missions", data={"url": URL}),
        browser.get(f"/missions/{new_mission_id()}"),
    ]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("does not answer" in answer.text and "127.0.0.1" not in answer.text for answer in answers)


def test_what_cannot_be_recorded_is_not_read(
    producer_settings: Settings, reader: ResultReader, client: redis.Redis
) -> None:
    client.set(Key.AUDIT, "not a stream")
    answer = visitor(producer_settings, reader).post(f"/missions/{new_mission_id()}", data={"reason": "x"})
    assert answer.status_code == 503
    assert "nothing was read" in answer.text


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
def test_a_form_of_another_site_is_refused(
    producer_settings: Settings, mission_client: MissionClient, origin: str
) -> None:
    answer = visitor(producer_settings).post("/missions", data={"url": URL}, headers={"Sec-Fetch-Site": origin})
    assert answer.status_code == 403
    assert mission_client.stats().queued == 0


def test_under_another_name_it_does_not_answer(producer_settings: Settings) -> None:
    assert visitor(producer_settings).get("/", headers={"Host": "evil.example"}).status_code == 400


def test_no_page_is_kept_framed_or_runs_a_script(producer_settings: Settings) -> None:
    browser = visitor(producer_settings)
    for answer in (browser.get("/"), browser.get("/nowhere"), browser.post("/missions", data={"url": "x"})):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
