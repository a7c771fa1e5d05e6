"""One submitter's documents cannot fill Redis: a result has a maximum size, and so have all results of one submitter together."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import redis

from mission.model import Ticket
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.server import Server
from tests.conftest import wait_for
from tests.unit.worker.parts import Keys
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings
from worker.work.coordinator import Coordinator
from worker.work.hosts import Hosts
from worker.work.memory import Memory
from worker.work.pipeline import Pipeline

pytestmark = pytest.mark.full

MIB = 1024 * 1024
LIMIT = 64 * MIB  # of the test's own Valkey, an eighth of the chart's
DOCUMENTS = 47  # this many of 10 MB filled 512 MB


def document(secrets: int, length: int) -> bytes:
    return gzip.compress(f"{{*{'a' * length}*}}\n".encode() * secrets)


BODIES = {
    "/huge": document(9_900, 1_000),  # 25 KB on the wire, 10 MB of plaintext
    "/large": document(960, 1_000),  # just below DECODER_MAX_RECORD
    "/plain": document(1, 20),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = BODIES[self.path.partition("?")[0]]
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/plain"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", len(body)),
        ):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        pass


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class World:
    """A small Valkey, a site, and the parts of a worker."""

    def __init__(self, url: str, site: str) -> None:
        self.site = site
        settings = WorkerSettings.from_env(
            redis_url=url,
            stored_quota=LIMIT // 4,
            allowed_hosts=(site.removeprefix("http://"),),
            allowed_schemes=("http",),
            allowed_networks=("127.0.0.1/32",),
            concurrency=4,
            memory="1GiB",
        )
        client: redis.Redis = connect(settings)
        self.ledger = Ledger(client, settings)
        self.keys = Keys(self.ledger, settings)
        settings = settings.model_copy(update={"recipient": self.keys.identity.recipient.text})
        policy = UrlPolicy.from_settings(settings)
        pipeline = Pipeline(
            settings,
            keyring=self.keys.keyring,
            recipients=Recipients(settings),
            policy=policy,
            fetcher=Fetcher(settings, policy, Resolver()),
            hosts=Hosts(self.ledger, 4),
            memory=Memory(settings),
        )
        self.coordinator = Coordinator(self.ledger, pipeline, settings)
        self.coordinator.start()

    def enqueue(self, path: str, count: int, submitter: str) -> list[str]:
        """The ids of the admitted missions, all processed."""
        urls = [f"{self.site}{path}?{n}" for n in range(count)]
        verdicts = self.keys.admitter.admit(urls, submitter=submitter)
        ids = [verdict.id for verdict in verdicts if isinstance(verdict, Ticket)]
        for _ in ids:
            self.coordinator.work(1)
        # The worker also claims by itself: no caller waits for those missions.
        wait_for(lambda: all(self.ledger.status(id_).finished for id_ in ids), what="the end of each")
        return ids

    def ends(self, ids: list[str]) -> Counter[str]:
        return Counter(f"{(one := self.ledger.status(id_)).state}:{one.reason or ''}" for id_ in ids)


@pytest.fixture
def world() -> Iterator[World]:
    with EmbeddedRedis() as server, serving() as site, redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", LIMIT)
        world = World(server.url, site)
        yield world
        world.coordinator.close()


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/huge", {"failed:result_too_large": DOCUMENTS}),
        ("/large", {"succeeded:": 16, "dead:stored_quota_exceeded": DOCUMENTS - 16}),
    ],
)
def test_one_submitters_large_documents_leave_redis_half_empty_and_others_are_served(
    world: World, path: str, ends: dict[str, int]
) -> None:
    hostile = world.enqueue(path, DOCUMENTS, "hostile")
    assert world.ends(hostile) == ends
    assert world.ends(world.enqueue("/plain", 3, "honest")) == {"succeeded:": 3}
    assert Server(world.ledger.client).condition().memory_used < LIMIT / 2
