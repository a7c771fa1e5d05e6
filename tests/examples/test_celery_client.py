from __future__ import annotations

import json
import signal
from uuid import uuid4

import pytest
import redis

from mission.operate.results import ResultReader
from tests.conftest import wait_for
from tests.examples.conftest import NOWHERE, Examples
from tests.integration.conftest import StartWorker
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

CLIENT = "celery_client.py"


def test_it_follows_a_mission_to_its_end(
    examples: Examples, start_worker: StartWorker, site: SampleSite, reader: ResultReader
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    done = examples.run(CLIENT, f"{site.url}/letter.txt")
    assert (done.returncode, done.stderr) == (0, "")
    ticket, status = map(json.loads, done.stdout.splitlines())
    assert ticket == {"id": status["id"], "state": "queued", "duplicate": False}
    assert (status["state"], status["secrets"]) == ("succeeded", 3)
    assert len(reader.reveal(ticket["id"], reason="a test")) == 3


def test_the_same_id_again_is_the_same_mission(examples: Examples, start_worker: StartWorker, site: SampleSite) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    mission_id = str(uuid4())
    tickets = []
    for _ in range(2):
        done = examples.run(CLIENT, f"{site.url}/plain.txt", "--id", mission_id)
        assert done.returncode == 0, done.stderr
        tickets.append(json.loads(done.stdout.splitlines()[0]))
    assert [(ticket["id"], ticket["duplicate"]) for ticket in tickets] == [(mission_id, False), (mission_id, True)]


def test_a_refusal_and_a_failure_are_told(examples: Examples, start_worker: StartWorker, site: SampleSite) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    refused = examples.run(CLIENT, "https://user:pa55word@docs.example.com/")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: credentials_in_url: leave out the user and password before the @\n"
    failed = examples.run(CLIENT, f"{site.url}/missing.txt")
    assert failed.returncode == 1
    assert json.loads(failed.stdout.splitlines()[1])["reason"] == "http_client_error"


def test_without_a_worker_it_gives_up_in_time_and_says_how_to_go_on(examples: Examples) -> None:
    done = examples.run(CLIENT, "https://docs.example.com/", "--timeout", "0.5")
    assert done.returncode == 1
    assert "does a worker run? Go on with --id " in done.stderr


def test_without_redis_it_gives_up_in_one_line(examples: Examples) -> None:
    done = examples.run(CLIENT, "https://docs.example.com/", REDIS_URL=NOWHERE)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: Redis does not answer\n")


def test_without_a_redis_url_it_says_what_to_set(examples: Examples) -> None:
    done = examples.run(CLIENT, "https://docs.example.com/", REDIS_URL="")
    assert done.returncode == 2
    assert "REDIS_URL is not set" in done.stderr


def test_ctrl_c_ends_it_with_how_to_go_on(examples: Examples, client: redis.Redis) -> None:
    with examples.start(CLIENT, "https://docs.example.com/") as process:
        wait_for(lambda: client.llen("missions"), what="the message")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("interrupted; go on with --id ")
