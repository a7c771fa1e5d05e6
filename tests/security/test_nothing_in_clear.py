"""Nothing secret leaks: one long run with a canary in every confidential place, then a search of everything that left.

The run: successes, every quick kind of failure, a worker killed in the middle of a mission, a Redis killed and started
again, malformed messages, clients that only speak Celery. All logs are at their most verbose level.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import traceback
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from mission.audit.log import AuditLog
from mission.errors import DecoderError
from mission.model import MissionStatus, Outcome, Reason, State, Ticket
from mission.operate.cancellation import cancel
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import entry_key
from producer import MissionClient
from tests.conftest import wait_for
from tests.queue_entries import encoded, entry, envelope
from tests.security.canary_site import ENDS, CanarySite
from tests.security.traces import Canaries, Capture, disguised, dump, files, guises, unescaped
from tests.servers.misbehaving import MisbehavingServer
from tests.servers.proxies import PlayingProxy, refuses, says
from tests.servers.tokens import Answer, TokenServer
from worker.fetch.credentials import Credentials
from worker.fetch.policy import UrlPolicy
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import Child, running_flower, running_worker
from worker.settings import WorkerSettings
from worker.work.memory import fixed, largest

# The fixture's run is expensive: all its tests share one process.
pytestmark = [pytest.mark.timeout(300), pytest.mark.full]

# The places to search, each with a text that it must contain: a place that was not recorded would be empty.
PLACES = {
    "worker's output": "mission-attempt",
    "server's files": "{decoder}:m:",
    "server's files after a rewrite": "{decoder}:m:",
    "commands": '"FCALL"',
    "keys": "celery-task-meta-",
    "results for Celery": "credentials_in_url",
    "events": "task-succeeded",
    "metrics": "decoder_missions_total",
    "Flower": "decoder.decode",
    "temporary files": "planted.tmp",
    "outcomes": '"reason": "http_client_error"',
    "exceptions": "InvalidMission",
    "producer's log": "planted",
}
# Clients that only speak Celery write URLs in clear, and senders of bad messages write their content: in the command itself, and
# in the append-only file until it is rewritten. The decoder's own records of them are never in clear.
CLEAR_FOR_CELERY = {"server's files", "commands"}
# A closed port that no request reaches: there is no token for it.
NO_TOKEN = 4
# In flight when their worker is killed.
ORPHANS = ("hold", "hold-doomed")


@dataclass
class Run:
    """The run's results, and what was recorded of it by place."""

    canaries: Canaries
    celery_canaries: Canaries
    planted: Canaries
    traces: dict[str, bytes] = field(default_factory=dict)
    ends: dict[str, MissionStatus] = field(default_factory=dict)
    reasons: set[Reason] = field(default_factory=set)  # of all ends, attempts and refusals
    revealed: set[tuple[str, str]] = field(default_factory=set)
    told: list[Outcome] = field(default_factory=list)
    site_secret: tuple[str, str] = ("", "")
    arrived: bytes = b""  # in requests to the sites and to the token server


class Scene:
    """The parts of the run: server, site, workers, clients."""

    def __init__(self, pieces: ExitStack, folder: Path) -> None:
        self.pieces = pieces
        self.folder = folder
        self.run = Run(Canaries(), Canaries(), Canaries())
        self.server = pieces.enter_context(EmbeddedRedis(folder / "server"))
        self.site = pieces.enter_context(CanarySite(self.run.canaries))
        self.deaf = pieces.enter_context(_nobody_takes_connections())
        self.run.site_secret = (self.site.category, self.site.value)
        # Behind OAuth, with the same document.
        self.login = pieces.enter_context(CanarySite(self.run.canaries))
        self.login.category, self.login.value = self.run.site_secret
        self.tokens = pieces.enter_context(TokenServer(None, prefix=self.run.canaries.new("OAuth token")))
        self.credentials = _credentials(self)
        self.identity, self.url_key = Identity.generate(), generate_url_key()
        self.settings = Settings.from_env(redis_url=self.server.url, url_key=self.url_key)
        self.redis = pieces.enter_context(connect(self.settings))
        # A compressed string would hide from the search.
        self.redis.config_set("rdbcompression", "no")
        self.commands = pieces.enter_context(Capture(self.server.url, "MONITOR"))
        self.events = pieces.enter_context(Capture(self.server.url, "PSUBSCRIBE *"))
        wait_for(lambda: b"psubscribe" in self.events.heard and b"+OK" in self.commands.heard, what="the captures")
        self.client = MissionClient(self.settings)
        self.celery = Celery("foreign", broker=self.server.url, backend=self.server.url, set_as_current=False)
        self.exceptions: list[str] = []
        self.metrics = b""
        self.orphans: dict[str, str] = {}  # their worker was killed: their leases expire in the background

    def values(self) -> dict[str, str]:
        """A worker's settings."""
        here = f"127.0.0.1:{self.site.port}"
        return {
            "redis_url": self.server.url,
            "url_key": self.url_key,
            "recipient": self.identity.recipient.text,
            "allowed_hosts": f"{here},127.0.0.1:{self.deaf},127.0.0.1:2,127.0.0.2:2,169.254.169.254,nowhere.invalid,"
            f"127.0.0.1:{self.login.port},127.0.0.1:{self.tokens.port},127.0.0.1:{NO_TOKEN}",
            "credentials": str(self.credentials),
            "allowed_schemes": "http,https",
            "allowed_networks": "127.0.0.0/8",
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
            "concurrency": "32",
            "host_concurrency": "32",
            "deadline": "4s",
            "read_timeout": "2s",
            "connect_timeout": "1s",
            "lease_seconds": "19s",
            "max_attempts": "2",
            "fetch_attempts": "1",
            "max_bytes": "256KiB",
            "shutdown_grace": "1s",
            "log_level": "debug",
        }

    def worker(self, name: str, **other: str) -> Child:
        """A worker in a separate folder, with these settings changed."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        child = self.pieces.enter_context(running_worker(folder, self.values() | other))
        child.wait_until("decoder-.*@.* ready")
        return child

    def scrape(self, worker: Child) -> None:
        """Record the worker's metrics."""
        port = child_port(worker)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            self.metrics += answer.read()

    def refused(self, attempt: Callable[[], object]) -> None:
        """Record everything that an exception shows of the attempt."""
        with pytest.raises(DecoderError) as refusal:
            attempt()
        error = refusal.value
        if error.reason is not None:
            self.run.reasons.add(error.reason)
        self.exceptions += [str(error), repr(error), repr(error.args), repr(vars(error))]
        # Without the frames' source lines: those are this test's own. The chain is what a careless `from` would carry along.
        link: BaseException | None = error
        while link is not None:
            self.exceptions += traceback.format_exception_only(link)
            link = link.__cause__ or link.__context__

    def wait(self, name: str, mission_id: str) -> None:
        """Follow a mission to its end."""
        status = self.client.wait(mission_id, timeout=90)
        assert status.finished, f"{name} is {status.state}"
        self.run.ends[name] = status

    def remember_reasons(self) -> None:
        """The reasons of missions and of each of their attempts, from the ledger."""
        plain: Any = self.redis
        for key in plain.scan_iter("{decoder}:m:*"):
            history, *last = plain.hmget(key, "history", "reason", "put_off")
            words = {mark.partition(":")[2] for mark in (history or b"").decode().split()}
            words |= {(word or b"").decode() for word in last}
            self.run.reasons |= {Reason(word) for word in words if word in set(Reason)}

    def wait_until_put_off(self, reason: Reason, *ids: str) -> None:
        """Wait until one of these missions is deferred for this reason; the reason leaves the entry at the next attempt."""
        wait_for(
            lambda: any(self.client.status(id_).put_off is reason for id_ in ids), what=f"a mission put off: {reason}"
        )
        self.run.reasons.add(reason)


def _credentials(scene: Scene) -> Path:
    """A file with each kind of credential, each a canary. The token server refuses one of them, with an error message."""
    new, folder = scene.run.canaries.new, scene.folder / "credentials"
    folder.mkdir()
    for name, text in {"key": new("header of a file"), "secret": new("OAuth client secret")}.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(f"{text}\n")
    stranger = new("OAuth client")

    def answer(number: int) -> Answer:
        if scene.tokens.asked[-1][1].get("client_id") == stranger:
            return scene.tokens.say(401, error="invalid_client", error_description=new("error of the token server"))
        return scene.tokens.hand_out(number)

    scene.tokens.answer = answer
    file = folder / "credentials.toml"
    file.touch(0o600)
    file.write_text(f"""
["127.0.0.1:{scene.site.port}".headers]
Authorization = "Bearer {new("static header")}"
["127.0.0.1:{scene.site.port}".header-files]
{new("name of a header")} = "key"
["127.0.0.1:{scene.login.port}".oauth2]
token-url = "{scene.tokens.url()}"
client-id = "{new("OAuth client")}"
client-secret-file = "secret"
scope = "{new("OAuth scope")}"
["127.0.0.1:{NO_TOKEN}".oauth2]
token-url = "{scene.tokens.url()}"
client-id = "{stranger}"
client-secret = "{new("OAuth client secret")}"
secret-in = "body"
""")
    return file


def _reported(scene: Scene, worker: Child, times: int) -> bool:
    """Whether the worker has logged the bad file this often; a scrape triggers its check, and is not kept."""
    kept = scene.metrics
    scene.scrape(worker)
    scene.metrics = kept
    return worker.log.read_text().count("its last valid content stays in use") >= times


def _bad_credentials(scene: Scene, worker: Child) -> None:
    """Break the credentials file in two ways, under a running worker and for the commands, then repair it."""
    good, new = scene.credentials.read_text(), scene.run.canaries.new
    settings = WorkerSettings.from_env(**scene.values())
    policy = UrlPolicy.from_settings(settings)
    bad_files = (
        f'{new("a key")} = "{new("a value")}',
        f'["127.0.0.1:{scene.site.port}".headers]\n{new("a header")} = "{new("a value")}\\n"\n',
    )
    for times, bad in enumerate(bad_files, 1):
        scene.credentials.write_text(bad)
        scene.refused(lambda: Credentials(settings, policy))
        wait_for(partial(_reported, scene, worker, times), what="a line about the file")
    scene.credentials.write_text(good)


@contextmanager
def _nobody_takes_connections() -> Iterator[int]:
    """A port whose queue of connections is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        port: int = listener.getsockname()[1]
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port))
        yield port


def child_port(worker: Child) -> str:
    return worker.wait_until(r'"server\.port": (\d+)')[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole run, once."""
    folder = tmp_path_factory.mktemp("run")
    temporary = folder / "tmp"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as pieces:
        patch.setenv("TMPDIR", str(temporary))
        heard = pieces.enter_context(_everything_logged(folder / "producer.log"))
        scene = Scene(pieces, folder)
        _plant(scene, temporary, heard)
        missions = _enqueue(scene)
        first = scene.worker("first")
        _kill_in_the_middle(scene, first)
        second = scene.worker("second")
        _redis_goes_away(scene, second)
        flower = pieces.enter_context(running_flower(temporary, scene.values()))
        # Started beside the capture of events: Flower misses what was sent before it listens.
        wait_for(lambda: scene.redis.pubsub_numpat() > 1, what="Flower to listen")
        _foreign(scene, second)
        for name, mission_id in missions.items():
            scene.wait(name, mission_id)
        _bad_credentials(scene, second)
        full = MissionClient(scene.settings.model_copy(update={"stored_quota": 1}))
        scene.refused(lambda: full.enqueue(scene.site.url("document")))
        _reveal(scene, missions)
        scene.scrape(second)
        traces = scene.run.traces
        traces["Flower"] = _pages(flower.url, flower.login)
        second.process.terminate()
        second.process.wait(60)
        proxied = _behind_a_proxy(scene)
        third = _end_in_the_middle(scene)
        scene.remember_reasons()
        scene.run.told = list(scene.client.outcomes(since=datetime.fromtimestamp(0, UTC), follow=False))
        traces["outcomes"] = "\n".join(json.dumps(outcome.as_dict()) for outcome in scene.run.told).encode()
        workers = (first, second, proxied, third)
        traces["worker's output"] = b"".join(worker.log.read_bytes() for worker in workers)
        traces["temporary files"] = files(temporary, *(worker.log.parent for worker in workers))
        scene.run.arrived = bytes(scene.site.asked + scene.login.asked) + repr(scene.tokens.asked).encode()
        _record_server(scene)
        traces["metrics"] = scene.metrics
        traces["exceptions"] = "\n".join(scene.exceptions).encode()
        traces["producer's log"] = (folder / "producer.log").read_bytes()
        yield scene.run


@contextmanager
def _everything_logged(path: Path) -> Iterator[logging.Logger]:
    """Record all logs of this process in a file, with their arguments."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield root
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def _plant(scene: Scene, temporary: Path, log: logging.Logger) -> None:
    """Deliberate leaks in places whose recording could have failed: the search must find them."""
    word = scene.run.planted.new("planted")
    scene.redis.set("planted", b64encode(word.encode()))
    scene.redis.publish("planted", word)
    scene.metrics += word.encode()
    scene.exceptions.append(word)
    (temporary / "planted.tmp").write_text(word)
    log.debug("planted: %s", word)


def _enqueue(scene: Scene) -> dict[str, str]:
    """One mission of each kind, and URLs that are refused at admission."""
    new, url = scene.run.canaries.new, scene.site.url
    missions = {kind: scene.client.enqueue(url(kind)).id for kind in ENDS if kind not in scene.site.held}
    path = f"{new('path')}?token={new('query')}#{new('fragment')}"
    for reason, text in {
        Reason.CONNECTION_FAILED: f"http://127.0.0.1:2/{path}",
        Reason.DNS_FAILURE: f"http://nowhere.invalid/{path}",
        Reason.HOST_NOT_ALLOWED: f"http://elsewhere.invalid/{path}",
        Reason.PORT_NOT_ALLOWED: f"http://127.0.0.1:3/{path}",
        Reason.BLOCKED_ADDRESS: f"http://169.254.169.254/{path}",
        Reason.CONNECT_TIMEOUT: f"http://127.0.0.1:{scene.deaf}/{path}",
        Reason.TLS_FAILURE: f"https://127.0.0.1:{scene.site.port}/{path}",
    }.items():
        missions[reason.value] = scene.client.enqueue(text).id
    missions["document behind OAuth"] = scene.client.enqueue(scene.login.url("document")).id
    missions["no token"] = scene.client.enqueue(f"http://127.0.0.1:{NO_TOKEN}/{path}").id
    missions["expired"] = scene.client.enqueue(url("document"), expires_seconds=0.01).id
    # Enough missions that their host is paused; nobody waits for them.
    assert list(scene.client.enqueue_many(f"http://127.0.0.2:2/{new('path')}" for _ in range(80)))
    key = new("idempotency key")
    missions["document with a key"] = scene.client.enqueue(url("document"), idempotency_key=key, exclusive=True).id
    scene.refused(lambda: scene.client.enqueue(url("document"), idempotency_key=key, exclusive=True))
    stranger = MissionClient(Settings.from_env(redis_url=scene.server.url, url_key=generate_url_key()))
    missions["another's URL key"] = stranger.enqueue(url("document")).id
    for bad in (
        f"http://{new('user')}:{new('password')}@127.0.0.1/",
        f"ftp://127.0.0.1/{new('path')}",
        f"http://127.0.0.1/{new('path')}\n{new('path')}",
        f"http://127.0.0.1\\{new('path')}",
        f"http://{new('host')}.{'x' * 300}/",
        f"{new('no URL')}",
        f"http://[::1/{new('path')}",
    ):
        scene.refused(lambda bad=bad: scene.client.enqueue(bad))  # type: ignore[misc]  # mypy cannot infer it
        assert all(isinstance(verdict, DecoderError) for verdict in scene.client.enqueue_many([bad]))
    for limit, value in (("queue_limit", "1"), ("quota", "1/hour")):
        limited = MissionClient(Settings.from_env(redis_url=scene.server.url, url_key=scene.url_key, **{limit: value}))
        with suppress(DecoderError):
            limited.enqueue(url("document"), submitter="limited")
        scene.refused(lambda limited=limited: limited.enqueue(url("document"), submitter="limited"))  # type: ignore[misc]  # mypy cannot infer it
    scene.refused(lambda: scene.client.status(new("mission id")))
    scene.refused(lambda: scene.client.enqueue(url("document"), submitter=new("submitter") + "/"))
    scene.refused(lambda: scene.client.enqueue(url("document"), idempotency_key=new("long key") * 50))
    return missions


def _kill_in_the_middle(scene: Scene, worker: Child) -> None:
    """SIGKILL while the mission's response is on its way; SIGABRT would leave a core file."""
    scene.scrape(worker)
    # In one message, so that both are in flight at the same time.
    hold, doomed = (
        ticket.id for ticket in scene.client.enqueue_many(map(scene.site.url, ORPHANS)) if isinstance(ticket, Ticket)
    )
    for name in ORPHANS:
        assert scene.site.held[name].wait(30)
    scene.redis.hset(entry_key(doomed), mapping={"attempts": 2, "crashes": 2})  # as if it had already ended workers
    worker.process.send_signal(signal.SIGABRT)
    assert worker.process.wait(30) == -signal.SIGABRT
    scene.site.let_go["hold"].set()
    scene.orphans = dict(zip(ORPHANS, (hold, doomed), strict=True))


def _redis_goes_away(scene: Scene, worker: Child) -> None:
    """Redis is killed while a mission is in flight, and comes back."""
    mission_id = scene.client.enqueue(scene.site.url("hold-redis")).id
    assert scene.site.held["hold-redis"].wait(30)
    scene.server.kill()
    scene.refused(lambda: scene.client.enqueue(scene.site.url("document")))
    scene.refused(lambda: scene.client.status(mission_id))
    scene.site.let_go["hold-redis"].set()
    wait_for(lambda: "Cannot connect" in worker.log.read_text() or worker.process.poll() is not None, what="an outage")
    worker.check()
    scene.server.start()
    scene.redis.config_set("rdbcompression", "no")
    scene.wait("hold-redis", mission_id)
    for name, orphan in scene.orphans.items():
        scene.wait(name, orphan)


def _end_in_the_middle(scene: Scene) -> Child:
    """A worker gets SIGTERM while it fetches a document, and releases the mission.

    Before that, a mission finds no free memory there, another no free slot at its host, and the extraction of a third crashes. One of
    the waiting missions is cancelled.
    """
    suspect = scene.client.enqueue(scene.site.url("document")).id
    scene.redis.hset(entry_key(suspect), "crashes", 2)
    values = {"read_timeout": "60s", "deadline": "60s", "lease_seconds": "75s", "max_bytes": "2MiB", "concurrency": "4"}
    values["host_concurrency"] = "2"
    rough = WorkerSettings.from_env(**values)
    values["memory"] = str(fixed(rough) + largest(rough))  # for one large document at a time
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "crashing_extraction"))
        worker = scene.worker("third", **values)
    wait_for(lambda: scene.client.status(suspect).reason is Reason.EXTRACTION_CRASHED, what="a crash of extraction")
    large = [scene.client.enqueue(scene.site.url("half")).id for _ in range(2)]
    scene.wait_until_put_off(Reason.MEMORY_BUSY, *large)
    mission_id = scene.client.enqueue(scene.site.url("hold-shutdown")).id
    assert scene.site.held["hold-shutdown"].wait(30)
    behind = scene.client.enqueue(scene.site.url("document")).id
    scene.wait_until_put_off(Reason.HOST_BUSY, behind)
    worker.process.terminate()
    worker.process.wait(60)
    assert scene.client.status(mission_id).put_off is Reason.SHUTDOWN
    audit = AuditLog(scene.redis, emit=scene.exceptions.append)
    assert cancel(scene.redis, scene.settings, audit, behind, why="the canaries") == State.CANCELLED
    return worker


def _behind_a_proxy(scene: Scene) -> Child:
    """A worker that fetches through a proxy, which refuses the host, then the login, and then sends no response."""
    new = scene.run.canaries.new
    with PlayingProxy(MisbehavingServer(), refuses(f"403 {new('refusal')}")) as proxy:
        setting = proxy.setting(f"{new('user of the proxy')}:{new('password of the proxy')}")
        # Its credentials are for loopback in clear, which bypasses the proxy.
        worker = scene.worker("proxied", egress_proxy=setting, credentials="")
        scene.wait("refused by the proxy", scene.client.enqueue(scene.site.url("document")).id)
        assert b"Proxy-Authorization: Basic " in proxy.heads[0]
        waiting = scene.client.enqueue(scene.site.url("document")).id
        proxy.manner = refuses(f"407 {new('refusal of the login')}")
        scene.wait_until_put_off(Reason.PROXY_LOGIN_REFUSED, waiting)
        proxy.manner = says(new("answer of the proxy").encode())
        scene.wait_until_put_off(Reason.PROXY_FAILED, waiting)
        scene.scrape(worker)
        worker.process.terminate()
        worker.process.wait(60)
    audit = AuditLog(scene.redis, emit=scene.exceptions.append)
    assert cancel(scene.redis, scene.settings, audit, waiting, why="the canaries") == State.CANCELLED
    return worker


def _foreign(scene: Scene, worker: Child) -> None:
    """Clients that only speak Celery, and malformed messages."""
    new = scene.run.celery_canaries.new
    here = f"http://127.0.0.1:{scene.site.port}"
    for kind in ("document", "missing", "elsewhere"):
        url = f"{here}/{kind}/{new('submitted path')}?signature={new('submitted query')}"
        pending = scene.celery.send_task("decoder.submit", args=[url], queue="missions")
        scene.wait(f"submitted {kind}", pending.get(timeout=60)["id"])
    refused: list[tuple[list[Any], dict[str, Any]]] = [
        ([f"http://{new('user')}:{new('password')}@127.0.0.1/"], {}),
        ([f"{here}/{new('submitted path')}\n"], {}),
        ([f"{here}/{new('submitted path')}"], {"submitter": new("submitter") + "/"}),
        ([f"{here}/{new('submitted path')}"], {"expires": -1}),
    ]
    for args, options in refused:
        pending = scene.celery.send_task("decoder.submit", args=args, kwargs=options, queue="missions")
        scene.refused(lambda pending=pending: pending.get(timeout=60))  # type: ignore[misc]  # mypy cannot infer it
    bad = [
        new("not JSON").encode(),
        json.dumps([new("a list")]).encode(),
        entry(new("unknown task")),
        entry(args=[[new("mission id")]]),
        entry(kwargs={new("keyword"): new("value")}),
        entry("decoder.submit", args=[f"{here}/{new('path')}"], kwargs={new("option"): new("value")}),
        entry("decoder.status", args=[new("status id")]),
        json.dumps(envelope() | {"content-type": new("content type")}).encode(),
        json.dumps(envelope() | {"body": new("body")}).encode(),
        json.dumps(envelope() | {"body": encoded(new("body"))}).encode(),
        json.dumps({"headers": {new("header"): new("value"), "task": "decoder.decode", "id": new("id")}}).encode(),
    ]
    odd = envelope()
    odd["headers"] |= {"argsrepr": new("argsrepr"), "origin": new("origin"), "eta": new("eta"), "group": new("group")}
    odd["headers"] |= {"root_id": new("root id"), "timelimit": new("time limit"), new("header"): new("value")}
    odd["properties"] |= {"reply_to": new("reply_to"), "correlation_id": new("correlation id")}
    scene.redis.lpush("missions", *bad, json.dumps(odd).encode())
    wait_for(lambda: scene.redis.xlen("{decoder}:quarantine") == len(bad), what="the quarantine")
    worker.wait_until(rf"decoder\.decode\[{odd['headers']['id']}\] succeeded")


def _reveal(scene: Scene, missions: dict[str, str]) -> None:
    reader = ResultReader(scene.redis, [scene.identity], AuditLog(scene.redis, emit=scene.exceptions.append))
    for name, mission_id in missions.items():
        if scene.run.ends[name].state is State.SUCCEEDED:
            secrets = reader.reveal(mission_id, reason="the canaries")
            scene.exceptions += map(repr, secrets)
            scene.run.revealed |= {(secret.category, secret.value) for secret in secrets}
        else:
            scene.refused(lambda mission_id=mission_id: reader.reveal(mission_id, reason="the canaries"))  # type: ignore[misc]  # mypy cannot infer it


def _pages(url: str, login: str) -> bytes:
    """Flower's pages and its API, following every link, with each task's own page."""
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}

    def get(path: str) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=30) as answer:
            return bytes(answer.read())

    wait_for(lambda: b"decoder.submit" in get("/api/tasks?limit=1000"), what="Flower to hear of the tasks")
    table = "draw=1&start=0&length=1000&search[value]=&columns[0][data]=name&order[0][column]=0&order[0][dir]=asc"
    found = [
        get(path)
        for path in (
            "/workers",
            "/workers?json=1",
            "/tasks",
            f"/tasks/datatable?{table}",
            "/broker",
            "/metrics",
            "/api/workers",
            "/api/task/types",
            "/api/queues/length",
            "/api/tasks?limit=1000",
        )
    ]
    ids = re.findall(rb'"uuid": ?"([0-9a-f-]{36})"', found[-1])
    assert ids
    for task_id in {item.decode() for item in ids}:
        found += [get(f"/task/{task_id}"), get(f"/api/task/info/{task_id}")]
    return b"\n".join(found)


def _record_server(scene: Scene) -> None:
    """Everything that the server holds, sent and wrote, also after a rewrite of its files."""
    traces, folder = scene.run.traces, scene.server.data_dir
    client: Any = scene.redis
    traces["keys"] = dump(scene.redis)
    traces["results for Celery"] = b"\n".join(client.get(key) for key in client.keys("celery-task-meta-*"))
    client.bgsave()
    wait_for(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], what="BGSAVE")
    assert (folder / "dump.rdb").stat().st_size > 1000
    traces["server's files"] = files(folder)
    client.bgrewriteaof()
    wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="BGREWRITEAOF")
    assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    traces["server's files after a rewrite"] = files(folder)
    traces["commands"] = unescaped(scene.commands.heard)
    traces["events"] = scene.events.heard


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_no_url_and_no_document_stands_in(place: str, run: Run) -> None:
    assert run.canaries.found_in(run.traces[place]) == set()


@pytest.mark.parametrize("place", sorted(set(PLACES) - CLEAR_FOR_CELERY))
def test_nothing_that_came_by_a_celery_message_stands_in(place: str, run: Run) -> None:
    assert run.celery_canaries.found_in(run.traces[place]) == set()


@pytest.mark.parametrize("place", PLACES)
def test_the_search_was_made_where_things_were_happening(place: str, run: Run) -> None:
    assert any(guise in run.traces[place] for guise in guises(PLACES[place]))


@pytest.mark.parametrize("place", ["server's files", "commands", "keys", "events", "temporary files", "producer's log"])
def test_a_leak_made_on_purpose_is_found_in(place: str, run: Run) -> None:
    assert run.planted.found_in(run.traces[place]) == {"planted"}


@pytest.mark.parametrize("place", sorted(CLEAR_FOR_CELERY))
def test_what_a_celery_client_writes_is_in_clear_in(place: str, run: Run) -> None:
    assert {"submitted path", "submitted query"} <= run.celery_canaries.found_in(run.traces[place])


def test_the_opened_records_hold_the_secret_and_its_category(run: Run) -> None:
    assert run.revealed == {run.site_secret}


def test_every_end_of_the_run_was_told(run: Run) -> None:
    told = {(outcome.id, outcome.state, outcome.reason) for outcome in run.told}
    assert {(status.id, status.state, status.reason) for status in run.ends.values()} <= told


@pytest.mark.parametrize("kind", ENDS)
def test_the_run_had_every_kind_of_end(kind: str, run: Run) -> None:
    assert run.ends[kind].reason is ENDS[kind]


@pytest.mark.parametrize(
    "reason",
    [
        Reason.CONNECTION_FAILED,
        Reason.DNS_FAILURE,
        Reason.HOST_NOT_ALLOWED,
        Reason.PORT_NOT_ALLOWED,
        Reason.BLOCKED_ADDRESS,
        Reason.TLS_FAILURE,
        Reason.CONNECT_TIMEOUT,
        Reason.EXPIRED,
    ],
)
def test_the_run_had_missions_that_found_no_server(reason: Reason, run: Run) -> None:
    assert run.ends[reason.value].reason is reason


def test_the_run_had_credentials_of_every_kind_where_they_belong(run: Run) -> None:
    assert run.canaries.found_in(run.arrived) >= {
        *("static header", "name of a header", "header of a file"),
        *("OAuth client", "OAuth client secret", "OAuth scope", "OAuth token"),
    }
    assert run.ends["document behind OAuth"].state is State.SUCCEEDED
    assert run.ends["no token"].reason is Reason.CREDENTIALS_REFUSED


def test_the_run_had_every_reason_there_is(run: Run) -> None:
    assert run.reasons == set(Reason)


def test_the_run_had_a_proxy_that_refused_a_host(run: Run) -> None:
    status = run.ends["refused by the proxy"]
    assert (status.state, status.reason) == (State.DEAD, Reason.PROXY_REFUSED)


def test_the_run_had_a_mission_that_this_worker_could_not_decrypt(run: Run) -> None:
    assert run.ends["another's URL key"].reason is Reason.INTERNAL_ERROR


@pytest.mark.parametrize("guise", disguised(""))
def test_the_search_sees_through(guise: str) -> None:
    canaries = Canaries()
    word = canaries.new("the label")
    assert canaries.found_in(disguised(word)[guise]) == {"the label"}


@pytest.mark.parametrize("guise", disguised(""))
def test_the_search_finds_nothing_where_nothing_is(guise: str) -> None:
    canaries, others = Canaries(), Canaries()
    canaries.new("the label")
    assert canaries.found_in(disguised(others.new("another's"))[guise]) == set()
