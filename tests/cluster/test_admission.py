"""Staging and production at the API server's admission: every object is accepted, in a namespace for only `restricted` pods."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, ENVIRONMENTS, Object, environment, everything, find, pods, render
from tests.cluster.kubernetes import Cluster, CommandFailed

NAMESPACE = "decoder-admission"
LEVEL = "restricted"

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, definitions: None) -> Iterator[str]:
    """A namespace that accepts only such pods, with their service account."""
    levels = {f"pod-security.kubernetes.io/{mode}": LEVEL for mode in ("enforce", "warn")}
    # Labelled as if Helm had created it: otherwise Helm would not take it over.
    account = {
        "name": "decoder",
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "decoder", "meta.helm.sh/release-namespace": NAMESPACE},
    }
    made: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": levels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
    ]
    apply(cluster, made)
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE)


def apply(cluster: Cluster, objects: list[Object], *options: str) -> list[str]:
    """Apply them. Any warning is an error, including one that a pod would violate `restricted`."""
    words = ["apply", "--server-side", "--warnings-as-errors", "--filename", "-", *options]
    return cluster.kubectl(*words, given=yaml.safe_dump_all(objects)).splitlines()


def offer(cluster: Cluster, objects: list[Object]) -> list[str]:
    """Let the server admit them without storing them."""
    return apply(cluster, objects, "--dry-run=server")


def values_file(name: str, folder: Path) -> str:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(environment(name)))
    return str(file)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_object_is_admitted(name: str, cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    release = ["decoder", str(CHART), "--namespace", namespace, "--values", values_file(name, tmp_path)]
    objects = list(yaml.safe_load_all(cluster.helm("template", *release)))
    assert {"Deployment", "CronJob", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "Pod"} <= {
        item["kind"] for item in objects
    }
    began = time.monotonic()
    assert len(offer(cluster, objects)) == len(objects)
    seen = f"{len(objects)} objects, each pod as `{LEVEL}`, no warning"
    cluster.times.append((f"{name}: all objects admitted", time.monotonic() - began, seen))
    # Helm renders with the server's data, but has no object admitted: a misspelt field would pass.
    cluster.helm("install", *release, "--dry-run=server")


def test_what_is_in_neither_is_admitted_as_well(cluster: Cluster, namespace: str) -> None:
    objects = rendered(namespace)
    assert len(offer(cluster, objects)) == len(objects)


def rendered(namespace: str) -> list[Object]:
    """Every object that the chart can create."""
    return [item | {"metadata": item["metadata"] | {"namespace": namespace}} for item in render(everything())]


@pytest.mark.parametrize("name", [name for name, _ in pods(render(everything()))])
def test_a_pod_that_runs_as_root_is_not_admitted(name: str, cluster: Cluster, namespace: str) -> None:
    """This shows that the objects admitted above comply with `restricted`."""
    (item,) = (item for item in rendered(namespace) if [found for found, _ in pods([item])] == [name])
    changed = copy.deepcopy(item)
    ((_, pod),) = pods([changed])
    pod["containers"][0]["securityContext"]["runAsNonRoot"] = False
    offer(cluster, [item])
    with pytest.raises(CommandFailed, match=rf'violate[s]? PodSecurity "{LEVEL}:latest": runAsNonRoot != true'):
        offer(cluster, [changed])


MISSPELT: list[tuple[str, str, list[Any], str]] = [
    ("ScaledObject", "decoder-worker", ["triggers", 0], "metaData"),
    ("PodMonitor", "decoder-worker", ["podMetricsEndpoints", 0], "intervall"),
    ("PrometheusRule", "decoder", ["groups", 0, "rules", 0], "summary"),
    ("AlertmanagerConfig", "decoder", ["route"], "groupby"),
    ("ExternalSecret", "decoder-secrets", ["data", 0, "remoteRef"], "name"),
]


@pytest.mark.parametrize(("kind", "name", "where", "field"), MISSPELT, ids=[kind for kind, *_ in MISSPELT])
def test_a_misspelt_field_is_refused(
    kind: str, name: str, where: list[Any], field: str, cluster: Cluster, namespace: str
) -> None:
    changed = copy.deepcopy(find(rendered(namespace), kind, name))
    below = changed["spec"]
    for step in where:
        below = below[step]
    below[field] = "x"
    path = "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    with pytest.raises(CommandFailed, match=re.escape(f".{path}.{field}: field not declared in schema")):
        offer(cluster, [changed])
