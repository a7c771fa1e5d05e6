"""The service that tells others how missions end: signed, again where it failed, nowhere that the guard does not open."""

from __future__ import annotations

import hmac
import json
import re
import signal
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import Popen
from time import time
from typing import Any

import pytest
import redis

from mission.model import State
from mission.store.changes import Commit
from mission.store.ledger import Ledger
from mission.store.names import Key
from producer import MissionClient
from tests.claims import claim_these
from tests.conftest import wait_for
from tests.examples.conftest import NOWHERE, Examples

pytestmark = pytest.mark.full

WEBHOOK = "webhook.py"
URL = "https://docs.example.com/page?token=hidden"


@dataclass(frozen=True, slots=True)
class Hook:
    """What came: the path, the header fields, the body."""

    path: str
    fields: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.fields["webhook-id"]

    @property
    def mission(self) -> str:
        return str(json.loads(self.body)["data"]["id"])

    def verify(self, secret: str) -> None:
        """As https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md has it."""
        timestamp = self.fields["webhook-timestamp"]
        assert abs(int(timestamp) - time()) < 60
        signed = b".".join([self.id.encode(), timestamp.encode(), self.body])
        expected = hmac.digest(b64decode(secret.removeprefix("whsec_")), signed, "sha256")
        assert self.fields["webhook-signature"] == f"v1,{b64encode(expected).decode()}"


@dataclass
class Receiver:
    """An app that is told. `answers` by path: statuses for the first so many requests; then 204. `held`: paths that do not answer."""

    port: int = 0
    hooks: list[Hook] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    held: dict[str, threading.Event] = field(default_factory=dict)

    def at(self, path: str) -> list[Hook]:
        return [hook for hook in self.hooks if hook.path == path]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.hooks.append(Hook(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            if self.path in found.held:
                found.held[self.path].wait(60)
            answers = found.answers.get(self.path)
            status = answers.pop(0) if answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", found.url("/elsewhere"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        for event in found.held.values():
            event.set()
        server.shutdown()


@pytest.fixture
def secret(examples: Examples) -> str:
    made = examples.run(WEBHOOK, "--new-secret")
    assert (made.returncode, made.stderr) == (0, "")
    return made.stdout.strip()


Start = Callable[..., Any]


@pytest.fixture
def service(examples: Examples, receiver: Receiver, secret: str) -> Start:
    """Start the service with an endpoint for each submitter; when it is entered it follows."""

    @contextmanager
    def start(*arguments: str, **endpoints: str) -> Iterator[Popen[str]]:
        write_endpoints(examples.folder, secret, endpoints)
        env = {
            "DECODER_ALLOWED_HOSTS": f"127.0.0.1:{receiver.port},169.254.169.254",
            "DECODER_ALLOWED_SCHEMES": "http",
            "DECODER_ALLOWED_NETWORKS": "127.0.0.1/32,169.254.0.0/16",
        }
        with examples.start(WEBHOOK, "endpoints.toml", *arguments, **env) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "telling webhooks\n"
            yield process

    return start


def write_endpoints(folder: Path, secret: str, endpoints: Mapping[str, str], mode: int = 0o600) -> None:
    file = folder / "endpoints.toml"
    file.touch()
    file.chmod(mode)
    lines = [f'["{name}"]\nurl = {json.dumps(url)}\nsecret = {json.dumps(secret)}\n' for name, url in endpoints.items()]
    file.write_text("".join(lines))


def finished(missions: MissionClient, ledger: Ledger, submitter: str = "app", state: State = State.SUCCEEDED) -> str:
    """A mission of a submitter that has ended; its id."""
    ticket = missions.enqueue(URL, submitter=submitter)
    (claim,) = claim_these(ledger, [ticket.id], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, state, secrets=3)], 60)
    return ticket.id


def test_each_submitter_is_told_of_his_own_missions_signed(
    service: Start, receiver: Receiver, mission_client: MissionClient, ledger: Ledger, secret: str
) -> None:
    with service(**{"app": receiver.url("/app"), "other.app": receiver.url("/other?x=1")}):
        mine = [finished(mission_client, ledger) for _ in range(20)]
        other = finished(mission_client, ledger, "other.app")
        finished(mission_client, ledger, "nobody")
        wait_for(lambda: len(receiver.hooks) == 21, what="all that are told")
    assert sorted(hook.mission for hook in receiver.at("/app")) == sorted(mine)
    (hook,) = receiver.at("/other?x=1")
    hook.verify(secret)
    status = mission_client.status(other)
    assert json.loads(hook.body) == {
        "type": "mission.succeeded",
        "timestamp": status.finished_at,
        "data": {
            "id": other,
            "submitter": "other.app",
            "state": "succeeded",
            "reason": None,
            "secrets": 3,
            "submitted_at": status.submitted_at,
            "finished_at": status.finished_at,
        },
    }
    assert hook.fields["content-type"] == "application/json"
    assert len({hook.id for hook in receiver.hooks}) == 21


def test_what_was_not_taken_is_told_again_under_the_same_id_and_given_up_in_the_end(
    service: Start, receiver: Receiver, mission_client: MissionClient, ledger: Ledger, client: redis.Redis, secret: str
) -> None:
    receiver.answers = {"/app": [503, 302], "/gone": [410]}
    with service(app=receiver.url("/app"), gone=receiver.url("/gone")) as process:
        gone, kept = finished(mission_client, ledger, "gone"), finished(mission_client, ledger)
        wait_for(lambda: len(receiver.at("/app")) == 3, what="the third try")
        assert re.fullmatch(
            rf"msg_\d+-\d+: mission {gone} of gone was not told: answered 410\n", process.stderr.readline()
        )
        wait_for(lambda: client.zcard(Key.HELD + "webhooks") == 0, what="the group to have dealt with them")
    tries = receiver.at("/app")[:3]
    assert {(hook.id, hook.mission) for hook in tries} == {(tries[0].id, kept)}
    for hook in tries:
        hook.verify(secret)
    assert receiver.at("/elsewhere") == [], "no redirect is followed"
    assert len(receiver.at("/gone")) == 1


def test_no_address_is_connected_to_that_the_guard_does_not_open(
    service: Start, receiver: Receiver, mission_client: MissionClient, ledger: Ledger
) -> None:
    endpoints = {
        "metadata": "http://169.254.169.254/latest",
        "unlisted": f"http://localhost:{receiver.port}/",
        "scheme": f"https://127.0.0.1:{receiver.port}/",
    }
    with service(**endpoints) as process:
        said = {}
        for submitter in endpoints:
            finished(mission_client, ledger, submitter)
            said[submitter] = process.stderr.readline().rpartition(": ")[2].strip()
    assert said == {
        "metadata": "blocked_address",
        "unlisted": "host_not_allowed",
        "scheme": "scheme_not_allowed",
    }
    assert receiver.hooks == []


def test_what_a_killed_service_was_about_to_tell_is_told_by_another(
    service: Start, receiver: Receiver, mission_client: MissionClient, ledger: Ledger, client: redis.Redis
) -> None:
    receiver.held = {"/app": threading.Event()}
    with service("--threads", "1", app=receiver.url("/app")) as process:
        mission_id = finished(mission_client, ledger)
        wait_for(lambda: receiver.hooks, what="the first try")
        process.kill()
        process.wait(30)
    receiver.held["/app"].set()
    held: Any = client.zrange(Key.HELD + "webhooks", 0, -1)
    assert len(held) == 1
    client.zadd(Key.HELD + "webhooks", dict.fromkeys(held, 1))  # as if its time were over
    with service("--threads", "1", app=receiver.url("/app")):
        wait_for(lambda: len(receiver.hooks) == 2, what="the second try")
        wait_for(lambda: client.zcard(Key.HELD + "webhooks") == 0, what="the group to have dealt with it")
    first, second = receiver.hooks
    assert (first.id, first.mission) == (second.id, second.mission) == (second.id, mission_id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_asked_to(service: Start, receiver: Receiver, number: signal.Signals) -> None:
    with service(app=receiver.url("/app")) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("", 0o644, "is open to others: run `chmod go= endpoints.toml`"),
        ("[app", 0o600, "endpoints.toml: "),
        ('[app]\nurl = "http://x.example/"\n', 0o600, "[app] takes a url, and a secret as --new-secret prints it"),
        ("app = 7\n", 0o600, "[app] takes a url"),
    ],
)
def test_a_bad_file_is_refused_in_a_line(examples: Examples, text: str, mode: int, told: str) -> None:
    file = examples.folder / "endpoints.toml"
    file.write_text(text)
    file.chmod(mode)
    done = examples.run(WEBHOOK, "endpoints.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_url_that_is_none_is_not_repeated(examples: Examples, secret: str) -> None:
    write_endpoints(examples.folder, secret, {"app": "http://user:hidden@x.example/"})
    done = examples.run(WEBHOOK, "endpoints.toml")
    assert done.returncode == 2
    assert "[app] credentials_in_url" in done.stderr
    assert "hidden" not in done.stderr


def test_without_redis_it_says_so(examples: Examples, secret: str) -> None:
    write_endpoints(examples.folder, secret, {})
    done = examples.run(WEBHOOK, "endpoints.toml", DECODER_REDIS_URL=NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: store_unavailable: ")
