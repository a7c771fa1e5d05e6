"""Rollback: immutable fields, rendered objects, and time limits."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    DIGEST,
    ENVIRONMENTS,
    OTHER_DIGEST,
    PROXY,
    RECIPIENT,
    Object,
    Values,
    environment,
    everything,
    find,
    load_yaml,
    merged,
    render,
)
from tests.releases import tree_of_last_release

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Decided at the first installation; README.md says so.
ONCE_FOR_ALL = ("valkey.storage.",)

# Fields that the API server refuses to change, by kind.
MUTABLE_IN_STATEFULSETS = {
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
}


def immutable(item: Object) -> Any:
    """The fields of an object that can be set only at creation."""
    spec = item.get("spec", {})
    match item["kind"]:
        case "Deployment":
            return spec["selector"]
        case "StatefulSet":
            return {name: value for name, value in spec.items() if name not in MUTABLE_IN_STATEFULSETS}
        case "Service":
            return {"clusterIP": spec.get("clusterIP"), "headless": spec.get("clusterIP") == "None"}
        case "ConfigMap":
            return item.get("immutable")
        case "ExternalSecret":
            return spec["target"]["name"]
    return None


def changed_immutables(before: list[Object], after: list[Object]) -> list[str]:
    known = {(item["kind"], item["metadata"]["name"]): immutable(item) for item in before}
    return [
        f"{item['kind']} {item['metadata']['name']}"
        for item in after
        if (key := (item["kind"], item["metadata"]["name"])) in known and known[key] != immutable(item)
    ]


# A second valid value, if none can be derived from the type; None if two changes are needed at once, which another test covers.
OTHER: Values = {
    "audit.trimSchedule": "0 4 * * *",
    "image.repository": "registry.example.com/other",
    "image.digest": OTHER_DIGEST,
    "image.tag": None,
    "imagePullSecrets": ["pull"],
    "trial.enabled": None,
    "secrets.existingSecret": None,
    "secrets.external.enabled": None,
    "credentials.existingSecret": None,
    "secrets.external.store.kind": "SecretStore",
    "secrets.external.refreshInterval": "2h",
    "recipients.default": RECIPIENT[:-4] + "AAAA",
    "recipients.submitters": {"app": RECIPIENT},
    "redis.cidrs": ["10.9.0.0/24"],
    "egressProxy.enabled": None,
    "egressProxy.cidrs": ["10.30.40.0/28"],
    "config.egressResolve": None,
    "config.allowedHosts": ["other.example.com"],
    "config.allowedSchemes": ["http", "https"],
    "config.allowedNetworks": ["10.1.0.0/16"],
    "config.maxBytes": "1MiB",
    "config.maxRecord": "2MiB",
    "config.storedQuota": "256MiB",
    "config.memory": "900MiB",
    "config.quota": "600/minute",
    "config.markers": "<< >>",
    "config.detectors": "marker",
    "config.rules": "/more/acme.toml",
    "config.logLevel": "debug",
    "config.logFormat": "text",
    "worker.maxSurge": "25%",
    "worker.podDisruptionBudget.maxUnavailable": "50%",
    "worker.extraEnv": [{"name": "TZ", "value": "UTC"}],
    "worker.extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
    "worker.extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "worker.tolerations": [{"operator": "Exists"}],
    "worker.affinity": {"nodeAffinity": {}},
    "keda.prometheusAddress": "http://other:9090",
    "valkey.image.repository": "registry.example.com/valkey",
    "valkey.image.digest": DIGEST,
    "valkey.image.tag": None,
    "valkey.maxMemory": "256mb",
    "valkey.storage.size": "9Gi",
    "networkPolicy.webPorts": [443, 8443],
    "networkPolicy.nodeCidrs": ["10.30.0.0/16"],
    "networkPolicy.apiServerCidrs": ["34.118.10.8/32"],
    "networkPolicy.clusterCidrs": ["34.118.224.0/20"],
    "networkPolicy.nodeLocalDns": [],
    "networkPolicy.flowerFrom": [{"podSelector": {}}],
    "networkPolicy.valkeyFrom": [{"podSelector": {}}],
    "monitoring.podMonitor.interval": "30s",
    "monitoring.alertmanager.slackChannel": "#other",
    "monitoring.environment": "other",
    "test.url": "https://docs.example.com/other.txt",
}


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in schema["properties"].items():
        if "properties" in below:
            yield from leaves(below, f"{path}{name}.")
        else:
            yield f"{path}{name}", below


LEAVES = dict(leaves(SCHEMA))


def at(values: Values, path: str) -> Any:
    for name in path.split("."):
        values = values.get(name, {})
    return values


def another(path: str, current: Any) -> Any:
    """Another valid value for a path."""
    if path in OTHER:
        return OTHER[path]
    if isinstance(current, bool):
        return not current
    if isinstance(current, int):
        return current + 1
    if LEAVES[path].get("pattern", "").startswith(r"^\d+(\.\d+)?(ms"):
        return "2d"
    if path.endswith(".cpu"):
        return "123m"
    if path.endswith((".memory", ".ephemeral-storage")):
        return "123Mi"
    return {"changed": "yes"} if isinstance(current, dict) else "changed"


def with_change(path: str, value: Any) -> Values:
    change: Any = value
    for name in reversed(path.split(".")):
        change = {name: change}
    return merged(everything(), change)


@pytest.mark.parametrize("path", [path for path in LEAVES if OTHER.get(path, "") is not None])
def test_going_back_from_a_change_touches_no_immutable_field(path: str) -> None:
    defaults = merged(load_yaml(CHART / "values.yaml"), everything())
    value = another(path, at(defaults, path))
    before, after = render(everything()), render(with_change(path, value))
    if path.startswith(ONCE_FOR_ALL):
        assert changed_immutables(before, after) == ["StatefulSet decoder-valkey"]
    else:
        assert changed_immutables(before, after) == []


def test_another_source_of_the_secrets_touches_no_immutable_field() -> None:
    external = environment("prod")
    existing = merged(external, {"secrets": {"existingSecret": "mine", "external": {"enabled": False}}})
    assert changed_immutables(render(external), render(existing)) == []


def test_the_way_through_a_proxy_and_back_touches_no_immutable_field() -> None:
    without, through = render(environment("prod")), render(environment("prod", egressProxy=PROXY))
    resolving = render(environment("prod", egressProxy=PROXY, config={"egressResolve": "proxy"}))
    assert changed_immutables(without, through) == changed_immutables(resolving, without) == []


def test_going_from_a_trial_to_staging_and_back_touches_no_immutable_field_but_the_volumes_size() -> None:
    trial = environment("trial", valkey={"image": {"tag": "9.1"}, "storage": {"size": "5Gi"}}, image={"tag": "other"})
    assert changed_immutables(render(trial), render(environment("staging"))) == []


def test_selectors_hold_nothing_that_a_release_changes() -> None:
    for name in ("worker", "flower"):
        selector = find(render(everything()), "Deployment", f"decoder-{name}")["spec"]["selector"]["matchLabels"]
        assert selector == {
            "app.kubernetes.io/name": "decoder",
            "app.kubernetes.io/instance": "decoder",
            "app.kubernetes.io/component": name,
        }


def next_chart(folder: Path) -> Path:
    """The chart, one version later."""
    chart = folder / "decoder"
    shutil.copytree(CHART, chart)
    text = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(re.sub(r"^(version|appVersion): .*", r"\1: 99.0.0", text, flags=re.MULTILINE))
    return chart


def unclustered(objects: list[Object]) -> str:
    return json.dumps(objects, sort_keys=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_one_version_on_and_back_is_where_it_was(name: str, tmp_path: Path) -> None:
    values = environment(name)
    newer = next_chart(tmp_path)
    first = render(values, revision=1, is_install=True)
    second = render(environment(name, image={"digest": OTHER_DIGEST}), newer, revision=2, is_upgrade=True)
    third = render(values, revision=3, is_upgrade=True)
    assert unclustered(first) != unclustered(second)
    assert unclustered(first) == unclustered(third)
    assert changed_immutables(first, second) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_going_back_to_the_last_release_touches_no_immutable_field(name: str, tmp_path: Path) -> None:
    chart = tree_of_last_release(tmp_path) / "helm" / "decoder"
    assert changed_immutables(render(environment(name), chart), render(environment(name))) == []


# The image was on the node for the last release; a new node pulls it.
PULL_SECONDS = 20
# Python's start and one answer of Redis. If Valkey has to start first, its own time is added.
INIT_SECONDS = 5


def startup_seconds(spec: Any) -> float:
    """The longest time from a pod's creation until it counts as available."""
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    startup, readiness = container["startupProbe"], container["readinessProbe"]
    return float(
        PULL_SECONDS
        + INIT_SECONDS * len(pod.get("initContainers", ()))
        + startup.get("initialDelaySeconds", 0)
        + startup["periodSeconds"] * startup["failureThreshold"]
        + readiness.get("initialDelaySeconds", 0)
        + readiness["periodSeconds"]
        + spec.get("minReadySeconds", 0)
    )


def waves(spec: Any, replicas: int) -> int:
    """The number of waves of new pods; a surge is rounded up."""
    surge = spec["strategy"]["rollingUpdate"]["maxSurge"]
    at_once = math.ceil(replicas * int(surge[:-1]) / 100) if isinstance(surge, str) else surge
    return math.ceil(replicas / at_once)


def deployment_seconds(spec: Any, replicas: int) -> tuple[float, float]:
    """The longest time until all new pods are available, and until the last old one is gone as well.

    Assumes that no wave starts before the old pods of the last one are gone, as on a full cluster.
    """
    grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    rounds = waves(spec, replicas)
    return rounds * startup_seconds(spec) + (rounds - 1) * grace, rounds * (startup_seconds(spec) + grace)


def worst_case(objects: list[Object]) -> tuple[float, float]:
    """The same for a release. Its own Valkey comes first: workers are not ready without it."""
    valkey = [item["spec"] for item in objects if item["kind"] == "StatefulSet"]
    queue = sum(spec["template"]["spec"]["terminationGracePeriodSeconds"] + startup_seconds(spec) for spec in valkey)
    scaled = [item["spec"]["maxReplicaCount"] for item in objects if item["kind"] == "ScaledObject"]
    ready = gone = 0.0
    for item in objects:
        if item["kind"] == "Deployment":
            own = scaled[0] if scaled and item["metadata"]["name"].endswith("-worker") else item["spec"].get("replicas")
            available, ended = deployment_seconds(item["spec"], own)
            ready, gone = max(ready, available), max(gone, ended)
    return queue + ready, queue + gone


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_worst_rollback_takes_less_than_5_minutes(name: str) -> None:
    ready, gone = worst_case(render(environment(name)))
    assert gone < 300
    # What `helm rollback --wait --timeout 4m` waits for.
    assert ready <= 240


@pytest.mark.parametrize("replicas", [1, 2, 3, 7, 20, 200])
def test_the_time_does_not_grow_with_the_number_of_workers(replicas: int) -> None:
    spec = find(render(environment("prod")), "Deployment", "decoder-worker")["spec"]
    assert deployment_seconds(spec, replicas)[1] < 300


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_rollout_that_is_slow_is_not_given_up_too_early(name: str) -> None:
    for item in render(environment(name)):
        if item["kind"] == "Deployment":
            assert item["spec"]["progressDeadlineSeconds"] > startup_seconds(item["spec"])


def test_no_old_worker_goes_before_a_new_one_is_ready() -> None:
    spec = find(render(environment("prod")), "Deployment", "decoder-worker")["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
