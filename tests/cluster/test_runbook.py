"""Every command of RUNBOOK.md and docs/operations.md, typed in a shell against a real cluster while the trouble is there; each shows what the document says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

import pytest
import redis

from mission.audit.log import AuditLog
from mission.errors import QueueFull
from mission.operate.cancellation import cancel
from mission.seal.url_keys import UrlKeyring
from mission.settings import Settings
from mission.store.names import QUEUE, Key
from tests.chart.rendering import CHART
from tests.cluster.kubernetes import Cluster
from tests.cluster.on_call import OnCall
from tests.cluster.prometheus import running_prometheus
from tests.cluster.release import NAMESPACE, WORKERS, Release, installed
from tests.cluster.secrets import OWNER
from tests.cluster.site import CLOSED, PORT
from tests.conftest import wait_for
from tests.documents.document import Block, blocks
from tests.documents.shell import MISUSE, Typed
from worker.local.embedded import EmbeddedRedis

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

TYPED = [block for block in blocks() if block.language == "sh" and block.tag not in ("yours", "setup")]
SECTIONS = list(dict.fromkeys(block.section for block in TYPED))
# The most seconds until a fault becomes visible.
SECONDS = 120.0

# An action to repeat until the fault is visible: the rules cover only the last seconds.
Again = Callable[[], object]
Trouble = Callable[[OnCall], AbstractContextManager[Again]]


@pytest.fixture(scope="module")
def on_call(cluster: Cluster, definitions: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    """A healthy release with every object of the chart, and a person on call."""
    folder = tmp_path_factory.mktemp("on-call")
    values = {
        "keda": {"enabled": True},
        "monitoring": {"alertmanager": {"enabled": True, "existingSecret": "decoder-alerting"}},
        "credentials": {"existingSecret": "decoder-credentials"},
        # Few slots, so that missions wait; few attempts, so that they become dead letters.
        "config": {"concurrency": 4, "fetchAttempts": 2, "maxAttempts": 2},
    }
    with installed(cluster, folder, **values) as release, running_prometheus(NAMESPACE, folder) as prometheus:
        yield OnCall(release, prometheus, folder)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_works_word_by_word(section: str, on_call: OnCall) -> None:
    on_call.is_well()
    typed_here = [block for block in TYPED if block.section == section]
    with TROUBLES.get(section, usual)(on_call) as again:
        for block in typed_here:
            if any(command.shows for command in block.commands):
                _see(block, on_call, again)
            else:
                assert not [str(typed) for typed in on_call.type(block) if typed.code]
        if section in MENDED:
            confirm = next(block for block in typed_here if block.tag == "confirm")
            mended = "nothing more of what the runbook shows"
            wait_for(lambda: any(typed.missing for typed in on_call.type(confirm)), seconds=SECONDS, what=mended)
    on_call.is_well()


def _see(block: Block, on_call: OnCall, again: Again) -> None:
    """Assert that a block finally shows everything that it should, with every command called correctly."""
    seen: list[Typed] = []

    def all_of_it() -> bool:
        again()
        seen[:] = on_call.type(block)
        assert not [str(typed) for typed in seen if typed.code in MISUSE]
        if not block.tag and any(typed.code for typed in seen):
            return False
        return not any(typed.missing for typed in seen if block.section not in NOT_BROUGHT_ABOUT)

    until = time.monotonic() + SECONDS
    while not all_of_it():
        lacking = [f"{typed}\nlacks {typed.missing}" for typed in seen if typed.missing or typed.code]
        assert time.monotonic() < until, "\n".join(lacking)


@contextmanager
def usual(on_call: OnCall) -> Iterator[Again]:
    """A normal day: missions end, one with secrets and one without."""
    on_call.filled_in["ID"] = on_call.finish("/good", "/plain")
    on_call.filled_in["REVISION"] = str(on_call.release.revision())
    yield lambda: on_call.enqueue("/plain")


@contextmanager
def missions_to(path: str, on_call: OnCall, *, count: int = 10) -> Iterator[Again]:
    yield lambda: on_call.enqueue(path, count)


@contextmanager
def missions_inside(on_call: OnCall) -> Iterator[Again]:
    """An allowed name resolves to a forbidden address: the API server's."""
    values = f"config.allowedHosts={{{on_call.release.site.entry},kubernetes.default.svc.cluster.local:{PORT}}}"
    _upgrade(on_call, "--set", values, "--wait")
    yield lambda: on_call.enqueue(f"http://kubernetes.default.svc.cluster.local:{PORT}/")


@contextmanager
def a_closed_port(on_call: OnCall) -> Iterator[Again]:
    """A closed port, until the missions have become dead letters."""
    closed = f"{on_call.release.site.entry.partition(':')[0]}:{CLOSED}"
    values = f"config.allowedHosts={{{on_call.release.site.entry},{closed}}}"
    _upgrade(on_call, "--set", values, "--wait")
    with on_call.producer() as producer:
        missions = [producer.enqueue(f"http://{closed}/good?{number}").id for number in range(6)]
    yield lambda: None
    with on_call.redis("operator") as client:
        for mission in missions:
            cancel(
                client, Settings.from_env(), AuditLog(client, emit=lambda line: None), mission, why="nobody is there"
            )


@contextmanager
def many_missions(on_call: OnCall) -> Iterator[Again]:
    """More missions than the workers have slots, with none deferred for its host: another section's fix may have lowered that limit."""
    _upgrade(on_call, "--set", "config.hostConcurrency=64", "--wait")
    on_call.enqueue("/slow/2", 150)
    yield lambda: None
    with on_call.producer() as client:
        wait_for(lambda: client.stats().queued == 0, seconds=120, what="the queue to drain")


@contextmanager
def a_full_queue(on_call: OnCall) -> Iterator[Again]:
    with many_missions(on_call), on_call.producer(queue_limit=1) as client:

        def refused() -> None:
            with suppress(QueueFull):
                client.enqueue(f"{on_call.release.site.url}/good")

        yield refused


@contextmanager
def a_poisoned_queue(on_call: OnCall) -> Iterator[Again]:
    with on_call.redis("celery") as client:
        yield lambda: client.lpush(QUEUE, b"no message")


@contextmanager
def a_dead_letter(on_call: OnCall) -> Iterator[Again]:
    on_call.filled_in["ID"] = on_call.finish("/broken")
    yield lambda: None


@contextmanager
def valkey_pauses(on_call: OnCall) -> Iterator[Again]:
    with on_call.redis(OWNER) as client:
        client.client_pause(timeout=900_000)
    yield lambda: None


@contextmanager
def valkey_set(name: str, value: str, usual: str, on_call: OnCall) -> Iterator[Again]:
    """As if changed by hand."""
    with on_call.redis(OWNER) as client:
        client.config_set(name, value)
    try:
        yield lambda: None
    finally:
        with on_call.redis(OWNER) as client:
            client.config_set(name, usual)


@contextmanager
def valkey_almost_full(on_call: OnCall) -> Iterator[Again]:
    with on_call.redis(OWNER) as client:
        yield lambda: client.config_set("maxmemory", round(client.info("memory")["used_memory"] / 0.94))


@contextmanager
def a_replica_that_hangs(on_call: OnCall) -> Iterator[Again]:
    """The address is on this machine, behind a port-forward."""
    with (
        on_call.forwarded("decoder-valkey", 6379) as address,
        EmbeddedRedis() as replica,
        redis.Redis.from_url(replica.url) as client,
    ):
        client.config_set("masteruser", OWNER, "masterauth", on_call.release.store.owner_password)
        client.replicaof("127.0.0.1", int(address.partition(":")[2]))
        wait_for(lambda: on_call.prometheus.ask("decoder_redis_replicas == 1"), seconds=60, what="the replica")
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            yield lambda: None
        finally:
            os.kill(replica.pid, signal.SIGCONT)


@contextmanager
def workers_that_cannot_start(on_call: OnCall, *, spared: int) -> Iterator[Again]:
    """New pods get a broken key; then the store has the right one again, and the pods must be replaced by hand."""
    release = on_call.release
    names = [pod["metadata"]["name"] for pod in release.workers()]
    release.store.apply(release.cluster, **{"url-key": "no key"})
    _bring_secrets(release)
    release.kubectl("delete", "pod", *names[spared:])
    on_call.enqueue("/good", 20)
    wait_for(lambda: _new_ones_crash(release, names), seconds=90, what="workers that do not start")
    release.store.apply(release.cluster)
    yield lambda: None

    def mended() -> bool:
        _bring_secrets(release)  # again: the kubelet may still have the old Secret
        return all(map(on_call.is_in_order, release.workers()))

    wait_for(mended, seconds=90, what="the right key everywhere")


def _bring_secrets(release: Release) -> None:
    """Make the kubelet sync the pods and their mounts now; by itself it does so every minute or two."""
    release.kubectl("annotate", "pods", "--selector", WORKERS, "--overwrite", f"looked-at={time.time()}")


def _new_ones_crash(release: Release, known: list[str]) -> bool:
    """Whether each new worker has been restarted."""
    new = [pod for pod in release.workers() if pod["metadata"]["name"] not in known]
    states = [state for pod in new for state in pod["status"].get("containerStatuses", [{"restartCount": 0}])]
    return bool(new) and all(state["restartCount"] for state in states)


@contextmanager
def a_worker_that_crashes(on_call: OnCall) -> Iterator[Again]:
    pod = on_call.release.workers()[0]["metadata"]["name"]

    def crash() -> None:
        kill = ("python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        on_call.release.kubectl("exec", pod, "--", *kill)
        wait_for(lambda: on_call.prometheus.ask(f'up{{instance="{pod}"}} == 0'), what="the worker's end")
        wait_for(lambda: on_call.prometheus.ask(f'up{{instance="{pod}"}} == 1'), seconds=90, what="the worker")

    yield crash


@contextmanager
def an_old_key(on_call: OnCall) -> Iterator[Again]:
    field = f"url:{UrlKeyring.parse(on_call.release.store.url_key).key_ids[0]}"
    with on_call.redis(OWNER) as client:
        client.hset(Key.KEYS_SEEN, field, str(int(time.time()) - 400 * 86400))
    yield lambda: None
    with on_call.redis(OWNER) as client:
        client.hset(Key.KEYS_SEEN, field, str(int(time.time())))


@contextmanager
def an_audit_that_was_added_to(on_call: OnCall) -> Iterator[Again]:
    with on_call.redis(OWNER) as client:
        client.rpush(Key.AUDIT, b"no entry")
    kubectl = on_call.release.kubectl
    kubectl("create", "job", "decoder-audit-trim-1", "--from=cronjob/decoder-audit-trim")
    yield lambda: None
    kubectl("wait", "--for=condition=Complete", "job/decoder-audit-trim-again", "--timeout=90s")


@contextmanager
def a_bad_key_file(on_call: OnCall) -> Iterator[Again]:
    """It has the right format, so that the chart accepts it."""
    _upgrade(on_call, "--set", "recipients.submitters.somebody=decoder-recipient:none:AAAA")
    yield lambda: None
    wait_for(lambda: on_call.prometheus.ask("max(decoder_bad_recipients) == 0"), seconds=SECONDS, what="the new file")


@contextmanager
def a_bad_file_of_credentials(on_call: OnCall) -> Iterator[Again]:
    release = on_call.release
    release.store.apply_credentials(release.cluster, "no table")
    yield lambda: _bring_secrets(release)

    def mended() -> bool:
        _bring_secrets(release)
        return bool(on_call.prometheus.ask("max(decoder_bad_credentials) == 0"))

    wait_for(mended, seconds=SECONDS, what="the new file")


@contextmanager
def a_proxy_that_is_away(on_call: OnCall) -> Iterator[Again]:
    """Nobody listens there."""
    release = on_call.release
    place = f"http://{release.site.entry.partition(':')[0]}:{CLOSED}"
    release.store.apply(release.cluster, **{"egress-proxy": place})
    values = ("--set", f"egressProxy.enabled=true,egressProxy.port={CLOSED},egressProxy.cidrs={{10.0.0.0/8}}")
    _upgrade(on_call, *values, "--wait")
    yield lambda: on_call.enqueue("/good", 20)
    _upgrade(on_call, "--set", "egressProxy.enabled=false", "--wait")


@contextmanager
def a_bad_release(on_call: OnCall) -> Iterator[Again]:
    """A missing image: the old workers continue."""
    with usual(on_call) as again:
        _upgrade(on_call, "--set", f"image.digest=sha256:{'0' * 64}")
        yield again


@contextmanager
def a_deployment_that_was_cut_off(on_call: OnCall) -> Iterator[Again]:
    with usual(on_call) as again:
        words = ("--reuse-values", "--set", f"image.digest=sha256:{'0' * 64}", "--wait")
        helm = ["helm", "-n", NAMESPACE, "upgrade", "decoder", str(CHART), *words]
        with subprocess.Popen(helm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as deployment:
            wait_for(lambda: on_call.release.status() == "pending-upgrade", what="the deployment to begin")
            deployment.kill()
        on_call.filled_in["STUCK"] = str(on_call.release.revision())
        yield again


def _upgrade(on_call: OnCall, *words: str) -> None:
    on_call.release.helm("upgrade", "decoder", str(CHART), "--reuse-values", *words)


TROUBLES: dict[str, Trouble] = {
    "DecoderSuccessRateLow": partial(missions_to, "/gone"),
    "DecoderMissionsFailing": partial(missions_to, "/gone"),
    "DecoderErrorBudgetBurnFast": partial(missions_to, "/gone"),
    "DecoderErrorBudgetBurnSlow": partial(missions_to, "/gone"),
    "DecoderErrorSpike": partial(missions_to, "/flaky"),
    "DecoderLatencyHigh": partial(missions_to, "/slow/11"),
    "DecoderBlockedAddresses": missions_inside,
    "DecoderMalformedInput": a_poisoned_queue,
    "DecoderNoSecrets": partial(missions_to, "/plain", count=50),
    "DecoderQueueGrowing": many_missions,
    "DecoderOldestMissionTooOld": a_closed_port,
    "DecoderRetryingGrowing": a_closed_port,
    "DecoderConsumerStalled": many_missions,
    "DecoderQueueFull": a_full_queue,
    "DecoderDeadLetters": a_dead_letter,
    "DecoderRedisAway": valkey_pauses,
    "DecoderRedisNearlyFull": valkey_almost_full,
    "DecoderRedisUnbounded": partial(valkey_set, "maxmemory", "0", "512mb"),
    "DecoderRedisEvicts": partial(valkey_set, "maxmemory-policy", "allkeys-lru", "noeviction"),
    "DecoderRedisAofFailing": partial(valkey_set, "appendonly", "no", "yes"),
    "DecoderRedisReplicaBehind": a_replica_that_hangs,
    "DecoderNoWorker": partial(workers_that_cannot_start, spared=0),
    "DecoderWorkerDown": partial(workers_that_cannot_start, spared=1),
    "DecoderWorkerRestarting": a_worker_that_crashes,
    "DecoderKeyOld": an_old_key,
    "DecoderAuditNotWhole": an_audit_that_was_added_to,
    "DecoderBadRecipient": a_bad_key_file,
    "DecoderBadCredentials": a_bad_file_of_credentials,
    "DecoderProxyFailing": a_proxy_that_is_away,
    "Roll back": a_bad_release,
    "Stuck in pending-upgrade": a_deployment_that_was_cut_off,
}
# The section's commands end the fault. Other faults end through a host, a submitter, an owner, or time.
MENDED = (
    *(
        "DecoderDeadLetters",
        "DecoderRedisAway",
        "DecoderRedisNearlyFull",
        "DecoderRedisUnbounded",
        "DecoderRedisEvicts",
    ),
    *("DecoderNoWorker", "DecoderWorkerDown", "DecoderBadRecipient"),
)
# The cluster has neither a Redis with TLS nor a host with credentials, over TLS or on loopback. The drill has both.
NOT_BROUGHT_ABOUT = ("DecoderRedisCertificateExpires", "DecoderCredentialsRefused")
