"""Bad releases with missions under way: which rollouts stop, which alerts page, and how long a rollback takes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mission.seal.url_keys import generate_url_key
from tests.chart.rendering import CHART
from tests.cluster.kubernetes import Cluster, CommandFailed
from tests.cluster.prometheus import Prometheus, running_prometheus
from tests.cluster.release import NAMESPACE, RELEASE, Release, installed, is_ready
from tests.cluster.traffic import Traffic, traffic
from tests.conftest import wait_for
from tests.documents.document import ROOT, blocks
from tests.documents.shell import type_in
from tests.processes import command_line, started

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MISSIONS, PER_SECOND = 2000, 5.0
# The limit for a rollback, from the command until missions flow.
ROLLBACK_SECONDS = 300
# How long a rollout must stay halted while the old workers work.
HALTED_SECONDS = 20
UPGRADE = ("upgrade", RELEASE, str(CHART), "--reuse-values")


@dataclass(frozen=True, slots=True)
class Scene:
    """A release with missions under way, and its monitoring."""

    release: Release
    traffic: Traffic
    prometheus: Prometheus
    folder: Path

    def paged(self, since: float) -> set[str]:
        """The alerts that have paged since a time."""
        return self.prometheus.fired("page", time.time() - since)

    def back_by_runbook(self, revision: int) -> None:
        """Every command of the section "Roll back", in order."""
        env = {"REVISION": str(revision), "PROMETHEUS_URL": self.prometheus.url, "KUBECONFIG": os.environ["KUBECONFIG"]}
        for block in blocks():
            if block.section == "Roll back":
                assert not [str(typed) for typed in type_in(block, env, self.folder) if typed.code]

    def back_by_pipeline(self, revision: int) -> None:
        """The script of the pipeline's jobs, which finds the revision itself."""
        config = self.folder / "kubeconfig"
        shutil.copy(os.environ["KUBECONFIG"], config)
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(config)}
        view = [
            "kubectl",
            "config",
            "view",
            "--minify",
            "--output=jsonpath={.contexts[0].context.cluster} {.contexts[0].context.user}",
        ]
        cluster, user = subprocess.run(view, env=env, capture_output=True, text=True, check=True).stdout.split()
        context = [
            "kubectl",
            "config",
            "set-context",
            "decoder/agents:staging",
            f"--cluster={cluster}",
            f"--user={user}",
        ]
        subprocess.run(context, env=env, check=True, capture_output=True)
        done = subprocess.run(
            [ROOT / "ci/rollback.sh", "staging"], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Rollback to {revision}" in done.stdout, done.stdout


@pytest.fixture(scope="module")
def scene(cluster: Cluster, definitions: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """At least 2,000 missions, from before the first incident until after the last; at the end none is lost, doubled or unreadable."""
    folder = tmp_path_factory.mktemp("incidents")
    with ExitStack() as pieces:
        began = time.monotonic()
        release = pieces.enter_context(installed(cluster, folder))
        cluster.times.append(
            ("install, with the values of staging", time.monotonic() - began, "two workers, Flower, Valkey")
        )
        prometheus = pieces.enter_context(running_prometheus(NAMESPACE, folder))
        wait_for(lambda: len(prometheus.ask('up{job="decoder-worker"} == 1')) == 2, what="both workers' metrics")
        stream = pieces.enter_context(traffic(release, per_second=PER_SECOND, at_least=MISSIONS))
        yield Scene(release, stream, prometheus, folder)
        verdict = stream.end()
        cluster.times.append(("all missions", 0.0, ", ".join(f"{count} {what}" for what, count in verdict.items())))
        assert verdict["accepted"] == verdict["succeeded"] >= MISSIONS
        assert verdict["lost"] == verdict["doubled"] == verdict["unreadable"] == 0


def another_key(release: Release) -> str:
    """Create a Secret like the store's, with a URL key that producers do not have; return its name."""
    data = release.store.data | {"url-key": generate_url_key()}
    words = [f"--from-literal={name}={value}" for name, value in data.items()]
    release.kubectl("create", "secret", "generic", "wrong-key", *words)
    return "wrong-key"


def image(name: str) -> Callable[[Release], list[str]]:
    """The options that set another release's image."""

    def values(release: Release) -> list[str]:
        repository, digest = release.cluster.images[name].split("@")
        return ["--set", f"image.repository={repository},image.digest={digest}"]

    return values


def wrong_key(release: Release) -> list[str]:
    """The options that make workers read that other Secret."""
    return ["--set", f"secrets.external.enabled=false,secrets.existingSecret={another_key(release)}"]


@dataclass(frozen=True, slots=True)
class BadRelease:
    """A release, and its expected effects.

    Args:
        changes: the options that `helm upgrade` is told.
        halts: whether its rollout stops by itself.
        pages: alerts of which at least one must page; then the workers are stopped by hand before the rollback.
        before: the previous image, to roll back to.
    """

    changes: Callable[[Release], list[str]]
    halts: bool
    pages: frozenset[str] = frozenset()
    before: str = "decoder"


FAILS = frozenset({"DecoderSuccessRateLow", "DecoderErrorBudgetBurnFast"})
BAD = {
    "an image that exits": BadRelease(image("exits"), halts=True),
    "a worker that never gets ready": BadRelease(image("unready"), halts=True),
    # A worker without the key notices at the first mission under it, and is ready by then.
    "the wrong key": BadRelease(wrong_key, halts=False, pages=FAILS | {"DecoderOldestMissionTooOld"}),
    "a release that fails every mission": BadRelease(image("fails"), halts=False, pages=FAILS),
    # The rule of releases: the previous release reads everything that a new one writes.
    "a schema newer by one": BadRelease(image("next"), halts=False, before="reads-next"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_is_taken_back_within_five_minutes(name: str, scene: Scene, cluster: Cluster) -> None:
    bad, release = BAD[name], scene.release
    wait_for(release.is_whole, seconds=120, what="a release that is whole")
    first = release.revision()
    if bad.before != "decoder":
        release.helm(*UPGRADE, *image(bad.before)(release), "--wait", "--timeout", "4m")
    good = release.revision()
    old = {pod["metadata"]["name"] for pod in release.workers()}
    began = time.time()
    release.helm(*UPGRADE, *bad.changes(release))
    if bad.halts:
        wait_for(lambda: len(release.workers()) > len(old), seconds=60, what="a worker of the new release")
        until = time.monotonic() + HALTED_SECONDS
        while time.monotonic() < until:
            assert _ready(release) <= old
        wait_for(
            lambda: _ready(release) == old and scene.traffic.flows(began), seconds=60, what="the old workers, at work"
        )
        stopped = "rollout halts, old workers go on"
    else:
        release.kubectl("rollout", "status", "deploy/decoder-worker", "--timeout=3m")
        stopped = "nothing"
    paged = scene.paged(began)
    if bad.pages:
        wait_for(lambda: bool(bad.pages & scene.paged(began)), seconds=120, what=f"a page: {bad.pages}")
        paged = scene.paged(began)
        release.kubectl("scale", "deploy/decoder-worker", "--replicas=0")
    command = time.time()
    go_back = scene.back_by_runbook if list(BAD).index(name) % 2 else scene.back_by_pipeline
    go_back(good)
    wait_for(
        lambda: release.is_whole(bad.before) and scene.traffic.flows(command),
        seconds=ROLLBACK_SECONDS,
        what="missions that flow",
    )
    took = time.time() - command
    waited = scene.traffic.longest_wait(began)
    cluster.times.append(
        (
            f"{name}: back by {go_back.__name__.removeprefix('back_by_')}",
            took,
            f"by itself: {stopped}; pages: {', '.join(sorted(paged)) or 'nothing'}; oldest mission {waited:.0f} s",
        )
    )
    assert took < ROLLBACK_SECONDS
    if bad.pages:
        scene.traffic.replay()
    if good != first:
        release.helm("rollback", RELEASE, str(first), "--wait", "--timeout", "4m")


def _ready(release: Release) -> set[str]:
    """The names of the existing workers."""
    return {pod["metadata"]["name"] for pod in release.workers() if is_ready(pod)}


@contextmanager
def measured(scene: Scene, cluster: Cluster, what: str, seen: str) -> Iterator[None]:
    """Measure from the block's start until the release is healthy and missions flow."""
    release = scene.release
    wait_for(release.is_whole, seconds=120, what="a release that is whole")
    began = time.time()
    yield
    wait_for(
        lambda: release.is_whole() and scene.traffic.flows(began), seconds=ROLLBACK_SECONDS, what="missions that flow"
    )
    seen = f"{seen}; oldest mission {scene.traffic.longest_wait(began):.0f} s"
    cluster.times.append((what, time.time() - began, seen))


def test_a_rollback_after_a_rollback_goes_further_back(scene: Scene, cluster: Cluster) -> None:
    release = scene.release
    with measured(scene, cluster, "a release, a bad one, back, and back again", "neither rollback goes to the bad one"):
        first = release.revision()
        release.helm(*UPGRADE, "--set", "worker.podAnnotations.round=second", "--wait", "--timeout", "4m")
        second = release.revision()
        release.helm(*UPGRADE, *image("unready")(release))
        scene.back_by_pipeline(second)
        assert _rounds(release) == {"second"}
        scene.back_by_pipeline(first)
        assert _rounds(release) == {None}


def _rounds(release: Release) -> set[str | None]:
    return {pod["metadata"]["annotations"].get("round") for pod in release.workers()}


def test_an_upgrade_that_was_cut_off_is_ended_as_the_runbook_has_it(scene: Scene, cluster: Cluster) -> None:
    release = scene.release
    with measured(scene, cluster, "an upgrade cut off, `pending-upgrade`", "refused until taken back; then it works"):
        good = release.revision()
        words = ["helm", "-n", NAMESPACE, *UPGRADE, *image("unready")(release), "--wait"]
        with started(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            wait_for(
                lambda: release.status() == "pending-upgrade" and len(release.workers()) > 2,
                seconds=60,
                what="it to begin",
            )
        with pytest.raises(CommandFailed, match="another operation"):
            release.helm(*UPGRADE)
        env = {"REVISION": str(good), "STUCK": str(good + 1), "KUBECONFIG": os.environ["KUBECONFIG"]}
        for block in blocks():
            if block.section == "Stuck in pending-upgrade":
                assert not [str(typed) for typed in type_in(block, env, scene.folder) if typed.code]
        assert release.status() == "deployed"


def test_a_drain_takes_one_worker_at_a_time(scene: Scene, cluster: Cluster) -> None:
    """On one node: the second worker stays until the first one's successor is ready somewhere, here after the node is back."""
    release = scene.release
    node = release.workers()[0]["spec"]["nodeName"]
    which = ["--pod-selector=app.kubernetes.io/component=worker", "--delete-emptydir-data", "--ignore-daemonsets"]
    with measured(scene, cluster, "kubectl drain", "the budget keeps one worker"):
        try:
            with pytest.raises(CommandFailed, match="violate the pod's disruption budget"):
                release.kubectl("drain", node, *which, "--timeout=45s")
            assert release.ready() == {cluster.image: [True, False]} or release.ready() == {
                cluster.image: [False, True]
            }
        finally:
            release.kubectl("uncordon", node)


def test_a_killed_kubelet_takes_no_worker_with_it(scene: Scene, cluster: Cluster) -> None:
    found = list(_kubelets())
    if not found:
        pytest.skip("the kubelet of this cluster cannot be killed from here")
    release = scene.release
    before = _restarts(release)
    with measured(scene, cluster, "the kubelet killed", "the same pods go on"):
        os.kill(found[0], signal.SIGKILL)
        wait_for(lambda: set(_kubelets()) - set(found), what="the kubelet that takes its place")
        release.kubectl("rollout", "status", "deploy/decoder-worker", "--timeout=2m")
    assert _restarts(release) == before


def _kubelets() -> Iterator[int]:
    """The processes of the bench, which shares its process namespace with the tests."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # gone meanwhile
            if "kubernetes kubelet " in command_line(int(name)):
                yield int(name)


def _restarts(release: Release) -> dict[str, int]:
    """How often each worker's container was restarted, by the name of its pod."""
    wait_for(release.is_whole, seconds=120, what="a release that is whole")
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in release.workers()}


def test_valkeys_pod_may_go_its_volume_stays(scene: Scene, cluster: Cluster) -> None:
    with measured(scene, cluster, "Valkey's pod deleted", "the volume stays"):
        scene.release.kubectl("delete", "pod", "decoder-valkey-0")
        scene.release.kubectl("rollout", "status", "statefulset/decoder-valkey", "--timeout=2m")
