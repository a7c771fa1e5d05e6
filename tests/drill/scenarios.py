"""The causes: how the drill triggers each with a real fault, the alerts that it must raise, and how it is removed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import redis
from cryptography.x509.oid import ExtendedKeyUsageOID

from mission.audit.log import AuditLog
from mission.errors import QueueFull
from mission.operate.dead_letters import DeadLetters
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.names import PREFIX, Key
from producer import MissionClient
from tests.conftest import wait_for
from tests.drill.receiver import HEARTBEAT
from tests.drill.site import Site
from tests.drill.stage import FORBIDDEN_PORTS, MAX_MEMORY, TRAFFIC_PER_SECOND, Stage
from tests.servers.certificates import Authority
from tests.servers.sockets import free_port
from tests.servers.tls_redis import tls_redis
from worker.local.embedded import EmbeddedRedis

Cause = Callable[[Stage], Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cause as a context manager: present while the block runs.

    Args:
        cause: a short description.
        brought: triggers it.
        pages: alerts that must arrive, by telephone and in Slack.
        tickets: alerts that must arrive only in Slack; also those that arrive after the page has ended.
        maybe: alerts that the same cause may raise before the page silences them, or when it is removed.
        seconds: the time in which all of them must arrive.
        mended: whether the runbook's steps for a machine without a cluster end it. If not, the scenario ends it itself: the cause lies
            with others (a host, a submitter), or with the cluster, where `tests/cluster/` tests the rest of the section.
    """

    cause: str
    brought: Cause
    pages: frozenset[str] = frozenset()
    tickets: frozenset[str] = frozenset()
    maybe: frozenset[str] = field(default_factory=frozenset)
    seconds: float = 60.0
    mended: bool = False


def usual(stage: Stage) -> dict[str, float]:
    """The traffic of a normal day."""
    return {f"{stage.site.url}/good": TRAFFIC_PER_SECOND}


@contextmanager
def _traffic(stage: Stage, rates: dict[str, float]) -> Iterator[None]:
    stage.traffic.set(rates)
    try:
        yield
    finally:
        stage.traffic.set(usual(stage))


@contextmanager
def some_documents_gone(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {f"{stage.site.url}/good": 3, f"{stage.site.url}/gone": 1}):
        yield


@contextmanager
def some_documents_gone_at_two_hosts(stage: Stage) -> Iterator[None]:
    gone = {f"{site.url}/gone": 2.0 for site in (stage.site, stage.other_site)}
    with _traffic(stage, {f"{stage.site.url}/good": 8} | gone):
        yield


@contextmanager
def all_documents_gone(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {f"{stage.site.url}/gone": 4}):
        yield


@contextmanager
def flaky_server(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {f"{stage.site.url}/flaky": 8}):
        yield


@contextmanager
def slow_server(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {f"{stage.site.url}/slow/11": 4}):
        yield


@contextmanager
def scan_of_forbidden_addresses(stage: Stage) -> Iterator[None]:
    with _traffic(stage, usual(stage) | {f"http://127.0.0.2:{port}/": 1 for port in FORBIDDEN_PORTS}):
        yield


@contextmanager
def poisoned_queue(stage: Stage) -> Iterator[None]:
    for number in range(60):
        stage.redis.lpush("missions", f"no message {number}".encode())
        time.sleep(0.05)
    yield


@contextmanager
def documents_without_secrets(stage: Stage) -> Iterator[None]:
    stage.site.plain = True
    try:
        yield
    finally:
        stage.site.plain = False


@contextmanager
def flood(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {f"{stage.site.url}/slow/3": 60}):
        yield
    wait_for(lambda: stage.client.stats().queued == 0, seconds=120, what="the queue to drain")


@contextmanager
def dead_server(stage: Stage) -> Iterator[None]:
    list(stage.client.enqueue_many([f"http://127.0.0.1:{stage.dead_port}/good"] * 6))
    yield
    with Site(stage.dead_port):
        _wait_for_old_missions(stage)


def _wait_for_old_missions(stage: Stage) -> None:
    wait_for(lambda: stage.client.stats().oldest_seconds < 10, seconds=120, what="the missions that waited")


@contextmanager
def hanging_server(stage: Stage) -> Iterator[None]:
    stage.site.hanging.set()
    with _traffic(stage, {}):
        list(stage.client.enqueue_many([f"{stage.site.url}/hang"] * 80))
        yield
        stage.site.hanging.clear()


@contextmanager
def full_queue(stage: Stage) -> Iterator[None]:
    client = MissionClient(stage.settings.model_copy(update={"queue_limit": 1}))
    list(stage.client.enqueue_many([f"{stage.site.url}/slow/5"] * 100))  # more than there are slots
    for _ in range(3):
        with suppress(QueueFull):
            client.enqueue(f"{stage.site.url}/good")
    yield


@contextmanager
def broken_document(stage: Stage) -> Iterator[None]:
    stage.client.enqueue(f"{stage.site.url}/broken")
    yield
    _discard_dead_letters(stage)


def _discard_dead_letters(stage: Stage) -> None:
    letters = DeadLetters(stage.redis, stage.settings, AuditLog(stage.redis, emit=lambda line: None))
    for letter in list(letters.find()):
        letters.discard(letter.id, why="the drill is over")


@contextmanager
def redis_killed(stage: Stage) -> Iterator[None]:
    stage.server.kill()
    try:
        yield
    finally:
        if stage.server.pid is None:
            stage.server.start()


@contextmanager
def redis_almost_full(stage: Stage) -> Iterator[None]:
    used = stage.redis.info("memory")["used_memory"]
    stage.redis.config_set("maxmemory", round(used / 0.92))
    try:
        yield
    finally:
        stage.redis.config_set("maxmemory", MAX_MEMORY)


@contextmanager
def redis_without_a_limit(stage: Stage) -> Iterator[None]:
    with _configured(stage, "maxmemory", "0", MAX_MEMORY):
        yield


@contextmanager
def redis_that_evicts(stage: Stage) -> Iterator[None]:
    with _configured(stage, "maxmemory-policy", "allkeys-lru", "noeviction"):
        yield


@contextmanager
def redis_without_its_aof(stage: Stage) -> Iterator[None]:
    with _configured(stage, "appendonly", "no", "yes"):
        yield


@contextmanager
def _configured(stage: Stage, name: str, value: str, usual: str) -> Iterator[None]:
    stage.redis.config_set(name, value)
    try:
        yield
    finally:
        stage.redis.config_set(name, usual)


@contextmanager
def replica_hangs(stage: Stage) -> Iterator[None]:
    stage.redis.config_set("repl-diskless-sync-delay", "0")
    with EmbeddedRedis() as replica, redis.Redis.from_url(replica.url) as client:
        client.config_set("masterauth", str(urlsplit(stage.server.url).password))
        client.replicaof("127.0.0.1", stage.server.port)
        wait_for(lambda: stage.ask("decoder_redis_replicas == 1"), what="the replica")
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(replica.pid, signal.SIGCONT)


@contextmanager
def certificate_of_three_days(stage: Stage) -> Iterator[None]:
    """Another Redis with TLS, and a worker that uses it."""
    with TemporaryDirectory(prefix="drill-") as name:
        folder = Path(name)
        authority = Authority(folder)
        server = authority.certificate("127.0.0.1", days=(-1, 3))
        own = str(authority.certificate("worker", usage=ExtendedKeyUsageOID.CLIENT_AUTH))
        with tls_redis(folder, certificate=server, ca=authority.ca_file) as port:
            tls = {"redis_url": f"rediss://127.0.0.1:{port}/0", "redis_ca_file": str(authority.ca_file)}
            tls |= {"redis_cert_file": own, "redis_key_file": own}
            with connect(Settings.from_env(**tls)) as client:
                client.config_set("appendonly", "yes", "maxmemory", MAX_MEMORY)
            stage.workers.set(tls)
            stage.workers.start("tls")
            stage.workers.set({})
            try:
                yield
            finally:
                stage.workers.leave("tls")


@contextmanager
def retries_of_a_dead_server(stage: Stage) -> Iterator[None]:
    with _traffic(stage, usual(stage) | {f"http://127.0.0.1:{stage.dead_port}/good": 20}):
        yield
    with Site(stage.dead_port):
        _wait_for_old_missions(stage)
    _discard_dead_letters(stage)  # of those that used up their attempts before the host was paused


@contextmanager
def audit_changed(stage: Stage) -> Iterator[None]:
    stage.redis.rpush(Key.AUDIT, b"no entry")
    stage.jobs.run("decoder-audit-trim-29401157")
    yield
    # It fails again, and the alert continues, unless the finding has been recorded as known.
    stage.jobs.delete_failed()
    stage.jobs.run("decoder-audit-trim-again")


@contextmanager
def prometheus_hangs(stage: Stage) -> Iterator[None]:
    """Only the missing heartbeat can report this; afterwards it comes again."""
    silent = partial(stage.receiver.silent_seconds, HEARTBEAT)
    wait_for(lambda: silent() < 5, what="the heartbeat")
    with stage.hanging("prometheus"):
        wait_for(lambda: silent() > 10, seconds=60, what="its absence")
    wait_for(lambda: silent() < 5, seconds=60, what="the heartbeat again")
    yield


@contextmanager
def only_worker_killed(stage: Stage) -> Iterator[None]:
    stage.workers.kill("first")
    yield
    if not stage.workers.states()["first"]:
        stage.workers.start("first")


@contextmanager
def one_of_two_workers_killed(stage: Stage) -> Iterator[None]:
    stage.workers.start("second")
    wait_for(lambda: len(stage.ask('up{job="decoder-worker"} == 1')) == 2, what="the second worker")
    stage.workers.kill("second")
    yield
    stage.workers.leave("second")


@contextmanager
def worker_crashes_again_and_again(stage: Stage) -> Iterator[None]:
    for _ in range(4):
        stage.workers.start("third")
        wait_for(lambda: len(stage.ask('up{job="decoder-worker"} == 1')) == 2, what="the third worker")
        time.sleep(1.0)  # one more scrape reaches this process
        stage.workers.kill("third")
    stage.workers.start("third")
    yield
    stage.workers.leave("third")


@contextmanager
def old_key(stage: Stage) -> Iterator[None]:
    key = f"url:{stage.url_key_id}"
    stage.redis.hset(PREFIX + "keys", key, str(int(time.time()) - 400 * 86400))
    yield
    stage.redis.hset(PREFIX + "keys", key, str(int(time.time())))


@contextmanager
def bad_recipient(stage: Stage) -> Iterator[None]:
    file = stage.recipients / "somebody.pub"
    file.write_text("no key\n")
    yield
    file.unlink(missing_ok=True)


@contextmanager
def bad_credentials(stage: Stage) -> Iterator[None]:
    good = stage.credentials.read_text()
    stage.credentials.write_text("no table\n")
    yield
    stage.credentials.write_text(good)


@contextmanager
def credentials_refused(stage: Stage) -> Iterator[None]:
    """Few among many: the success rate is not affected."""
    with _traffic(stage, {f"{stage.site.url}/good": 24, f"{stage.site.url}/private": 0.8}):
        yield


@contextmanager
def proxy_away(stage: Stage) -> Iterator[None]:
    """The only worker has an egress proxy whose address is closed."""
    tried = "sum(increase(decoder_fetch_attempts_total[8s])) == 0"
    with _traffic(stage, {}):
        stage.workers.set({"egress_proxy": f"http://127.0.0.1:{free_port()}"})
        stage.workers.end("first")
        stage.workers.start("first")
        stage.workers.set({})
        # After five failures the proxy is paused: all of them must be visible.
        wait_for(lambda: stage.ask(tried), what="a scrape of the new process alone")
    yield
    stage.workers.end("first")
    stage.workers.start("first")
    _wait_for_old_missions(stage)


@contextmanager
def nothing(stage: Stage) -> Iterator[None]:
    wait_for(lambda: stage.client.stats().succeeded > 20, what="missions that succeed")
    yield


@contextmanager
def no_traffic(stage: Stage) -> Iterator[None]:
    with _traffic(stage, {}):
        yield


def _names(*names: str) -> frozenset[str]:
    return frozenset(f"Decoder{name}" for name in names)


SPIKE = _names("ErrorSpike")
SCENARIOS = {
    scenario.brought.__name__: scenario
    for scenario in (
        Scenario("good traffic", nothing, seconds=15),
        Scenario("no traffic", no_traffic, seconds=25),
        Scenario(
            "somebody scans forbidden addresses",
            scan_of_forbidden_addresses,
            pages=_names("BlockedAddresses"),
        ),
        Scenario("a poisoned queue", poisoned_queue, tickets=_names("MalformedInput")),
        Scenario("a document that answers 500", broken_document, tickets=_names("DeadLetters"), mended=True),
        Scenario("the first answer is 503, retries hide it", flaky_server, tickets=SPIKE),
        Scenario("documents lose their secrets", documents_without_secrets, tickets=_names("NoSecrets"), seconds=90),
        Scenario("a server that takes 11 s", slow_server, tickets=_names("LatencyHigh"), seconds=90),
        Scenario(
            "more missions than are worked",
            flood,
            tickets=_names("QueueGrowing"),
            maybe=_names("OldestMissionTooOld", "RetryingGrowing"),
        ),
        Scenario("a dead server", dead_server, pages=_names("OldestMissionTooOld"), seconds=90),
        Scenario(
            "a server that hangs holds every slot",
            hanging_server,
            pages=_names("ConsumerStalled"),
            maybe=_names("LatencyHigh", "OldestMissionTooOld"),
        ),
        Scenario("the queue's limit is reached", full_queue, pages=_names("QueueFull")),
        Scenario("Redis is almost full", redis_almost_full, pages=_names("RedisNearlyFull")),
        Scenario("Redis loses its limit", redis_without_a_limit, tickets=_names("RedisUnbounded")),
        Scenario(
            "Redis is set to evict",
            redis_that_evicts,
            pages=_names("RedisEvicts"),
            maybe=_names("RedisAway"),
        ),
        Scenario("Redis' AOF is switched off", redis_without_its_aof, pages=_names("RedisAofFailing")),
        Scenario("a replica of Redis hangs", replica_hangs, tickets=_names("RedisReplicaBehind")),
        Scenario(
            "Redis' certificate is good for three days",
            certificate_of_three_days,
            tickets=_names("RedisCertificateExpires"),
        ),
        Scenario(
            "missions pile up for a dead server",
            retries_of_a_dead_server,
            tickets=_names("RetryingGrowing"),
            maybe=SPIKE | _names("OldestMissionTooOld", "DeadLetters", "MissionsFailing", "ErrorBudgetBurnSlow"),
        ),
        Scenario("somebody writes into the audit", audit_changed, tickets=_names("AuditNotWhole")),
        Scenario("Prometheus hangs, and the heartbeat stays away", prometheus_hangs, seconds=10),
        Scenario("Redis is killed", redis_killed, pages=_names("RedisAway")),
        Scenario("the only worker is killed", only_worker_killed, pages=_names("NoWorker")),
        Scenario(
            "one of two workers is killed",
            one_of_two_workers_killed,
            tickets=_names("WorkerDown"),
            maybe=_names("OldestMissionTooOld"),
        ),
        Scenario(
            "a worker crashes again and again",
            worker_crashes_again_and_again,
            tickets=_names("WorkerRestarting"),
            maybe=_names("WorkerDown", "OldestMissionTooOld"),  # its missions wait for their leases to expire
            seconds=90,
        ),
        Scenario("a key that is 400 days old", old_key, tickets=_names("KeyOld")),
        Scenario("a bad key file", bad_recipient, tickets=_names("BadRecipient")),
        Scenario("a bad file of credentials", bad_credentials, tickets=_names("BadCredentials")),
        Scenario("a host refuses our credentials", credentials_refused, tickets=_names("CredentialsRefused")),
        Scenario(
            "the egress proxy is away",
            proxy_away,
            pages=_names("ProxyFailing"),
            # Missions wait for the proxy; a worker that restarts is not scraped for a moment.
            maybe=SPIKE | _names("NoWorker", "WorkerDown", "OldestMissionTooOld", "RetryingGrowing", "NoSecrets"),
            seconds=90,
        ),
        Scenario(
            "a quarter of one host's documents is gone",
            some_documents_gone,
            tickets=_names("MissionsFailing", "ErrorBudgetBurnSlow"),
            maybe=SPIKE,
            seconds=90,
        ),
        Scenario(
            "a third of two hosts' documents is gone",
            some_documents_gone_at_two_hosts,
            pages=_names("SuccessRateLow"),
            tickets=_names("ErrorBudgetBurnSlow"),
            maybe=SPIKE | _names("MissionsFailing", "ErrorBudgetBurnFast"),
            seconds=90,
        ),
        Scenario(
            "all documents of a host are gone, and nothing else is asked for",
            all_documents_gone,
            pages=_names("ErrorBudgetBurnFast"),
            tickets=_names("MissionsFailing", "ErrorBudgetBurnSlow"),
            maybe=SPIKE,
            seconds=90,
        ),
    )
}

# A page silences these: the cause stays until Prometheus shows them as firing, and they arrive when the page ends.
AFTERWARDS = _names("ErrorBudgetBurnSlow")
