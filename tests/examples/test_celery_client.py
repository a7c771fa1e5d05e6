from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from tests.conftest import wait_for
from tests.examples.conftest import EXAMPLES, NOWHERE, Examples
from tests.integration.conftest import StartWorker
from tests.npm import node_modules
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite
from worker.local.stack import access, running_worker

pytestmark = pytest.mark.full

CLIENT = "celery_client.py"
NODE = str(EXAMPLES / "celery_client.js")


def test_it_follows_a_mission_to_its_end(
    examples: Examples, start_worker: StartWorker, site: SampleSite, reader: ResultReader
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    done = examples.run(CLIENT, f"{site.url}/letter.txt")
    assert (done.returncode, done.stderr) == (0, "")
    ticket, status = map(json.loads, done.stdout.splitlines())
    assert ticket == {"id": status["id"], "state": "queued", "duplicate": False, "priority": "normal"}
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


@pytest.fixture(scope="session")
def celery_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm's packages are."""
    return node_modules(tmp_path_factory.mktemp("npm"))


@dataclass(frozen=True, slots=True)
class Stack:
    """A server that knows the logins, with a worker and a site."""

    server: EmbeddedRedis
    site: SampleSite
    packages: Path

    def node(self, *arguments: str, redis_url: str) -> subprocess.CompletedProcess[str]:
        """Run Node to its end."""
        env = {"PATH": os.environ["PATH"], "NODE_PATH": str(self.packages), "REDIS_URL": redis_url}
        return subprocess.run(["node", *arguments], env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def stack(celery_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with EmbeddedRedis() as server, SampleSite() as site:
        values = access([site.url]) | {
            "redis_url": server.login_url("worker"),
            "url_key": generate_url_key(),
            "recipient": Identity.generate().recipient.text,
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
        }
        with running_worker(folder, values, grace=0) as worker:
            worker.wait_until(" ready")
            yield Stack(server, site, celery_node)


def test_a_client_for_node_follows_a_mission_with_the_login_for_celery(stack: Stack) -> None:
    redis_url = stack.server.login_url("celery") + "?allowUsernameInURI=true"
    done = stack.node(NODE, f"{stack.site.url}/letter.txt", redis_url=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    ticket, status = map(json.loads, done.stdout.splitlines())
    assert ticket == {"id": status["id"], "state": "queued", "duplicate": False, "priority": "normal"}
    assert (status["state"], status["secrets"]) == ("succeeded", 3)


def test_a_client_for_node_is_told_of_a_refusal(stack: Stack) -> None:
    redis_url = stack.server.login_url("celery") + "?allowUsernameInURI=true"
    done = stack.node(NODE, "https://user:pa55word@docs.example.com/", redis_url=redis_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: credentials_in_url: leave out the user and password before the @\n"


ASK = """
const url = process.env.REDIS_URL;
const client = require("celery-node").createClient(url, url, "missions");
const ask = (task, argument) => client.sendTask(task, [argument], {}).get(20000);
(async () => {
  for (const [task, argument] of [["decoder.submit", 42], ["decoder.submit", undefined], ["decoder.status", "no id"]])
    console.log(await ask(task, argument).catch((refusal) => refusal.exc_message?.[0] ?? "no answer"));
  await client.disconnect();
})();
"""


def test_a_client_for_node_that_asks_wrongly_is_told_what_the_tasks_take(stack: Stack) -> None:
    done = stack.node("-e", ASK, redis_url=stack.server.login_url("celery") + "?allowUsernameInURI=true")
    submit = "malformed_message: decoder.submit takes a URL, "
    status = "malformed_message: decoder.status takes a mission id "
    answers = done.stdout.splitlines()
    assert len(answers) == 3, done.stderr
    assert all(map(str.startswith, answers, (submit, submit, status)))


def test_a_client_for_node_needs_the_words_in_the_url_that_let_its_user_through(stack: Stack) -> None:
    """As the README says it: without them ioredis 4 leaves the user out, and Redis refuses the password."""
    done = stack.node(NODE, "https://docs.example.com/", redis_url=stack.server.login_url("celery"))
    assert done.returncode == 1
    assert "WRONGPASS" in done.stderr


def test_a_client_for_celery_works_with_its_login(stack: Stack, examples: Examples) -> None:
    done = examples.run(CLIENT, f"{stack.site.url}/letter.txt", REDIS_URL=stack.server.login_url("celery"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[1])["state"] == "succeeded"
