"""The release `decoder` as in staging, in its own namespace, which accepts only `restricted` pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mission.seal.sealing import Identity
from tests.chart.rendering import CHART, Values, merged
from tests.cluster.kubernetes import Cluster
from tests.cluster.secrets import SecretStore, credentials_for
from tests.cluster.site import ClusterSite, start_site

NAMESPACE = RELEASE = "decoder"
WORKERS = "app.kubernetes.io/component=worker"


@dataclass(frozen=True, slots=True)
class Release:
    """An installed release: its namespace, its keys and logins, and the site for its missions."""

    cluster: Cluster
    store: SecretStore
    site: ClusterSite

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """kubectl in its namespace."""
        return self.cluster.kubectl("-n", NAMESPACE, *words, given=given)

    def helm(self, *words: str) -> str:
        """helm in its namespace."""
        return self.cluster.helm("-n", NAMESPACE, *words)

    def revision(self) -> int:
        """The latest revision according to Helm."""
        return int(json.loads(self.helm("history", RELEASE, "--max", "1", "--output", "json"))[0]["revision"])

    def status(self) -> str:
        """`deployed`, or Helm's operation in progress."""
        status: str = json.loads(self.helm("status", RELEASE, "--output", "json"))["info"]["status"]
        return status

    def workers(self) -> list[dict[str, Any]]:
        """Worker pods that are not terminating."""
        pods = self.cluster.get("-n", NAMESPACE, "pods", "-l", WORKERS)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ready(self) -> dict[str, list[bool]]:
        """The image of each worker, and whether it is ready."""
        found: dict[str, list[bool]] = {}
        for pod in self.workers():
            found.setdefault(pod["spec"]["containers"][0]["image"], []).append(is_ready(pod))
        return found

    def is_whole(self, image: str = "decoder") -> bool:
        """Whether exactly two workers run, both ready and of one image."""
        return self.ready() == {self.cluster.images[image]: [True, True]}


def is_ready(pod: dict[str, Any]) -> bool:
    """Its state as reported by the kubelet."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", ()))


@contextmanager
def installed(cluster: Cluster, folder: Path, **extra: Any) -> Iterator[Release]:
    """Install the release; remove its namespace with everything in it at the end.

    Args:
        cluster: the target, with the definitions of custom resources.
        folder: for the file of values.
        extra: values over those of values-staging.yaml and of the cluster.
    """
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    # Fails if the namespace exists: otherwise somebody's own would be deleted.
    cluster.kubectl("create", "-f", "-", given=json.dumps(namespace))
    try:
        store = SecretStore(NAMESPACE)
        store.apply(cluster)
        site = start_site(cluster, NAMESPACE)
        store.apply_credentials(cluster, credentials_for(site.entry))
        file = folder / "values.json"
        file.write_text(json.dumps(merged(merged(site.values(), _values(cluster, store)), extra)))
        release = Release(cluster, store, site)
        chart = (str(CHART), "--values", str(CHART / "values-staging.yaml"), "--values", str(file))
        release.helm("install", RELEASE, *chart, "--wait", "--timeout", "4m")
        yield release
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=3m")


def image_values(name: str) -> Values:
    """The chart's object `repository@digest`."""
    repository, digest = name.split("@")
    return {"repository": repository, "digest": digest}


def _values(cluster: Cluster, store: SecretStore) -> Values:
    """Values that a cluster operator sets; with smaller requests, for a small node."""

    def asked(*words: str) -> list[str]:
        return [f"{address}/{128 if ':' in address else 32}" for address in cluster.kubectl("get", *words).split()]

    internal = 'jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}'
    slices = ("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
    small = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    return {
        "image": image_values(cluster.image),
        "recipients": {
            "default": store.identity.recipient.text,
            "submitters": {"somebody": Identity.generate().recipient.text},
        },
        "worker": {"resources": small},
        "valkey": {"image": image_values(cluster.images["valkey"]), "resources": small},
        "networkPolicy": {
            "nodeCidrs": asked("nodes", "-o", internal),
            "apiServerCidrs": asked(*slices, "-o", "jsonpath={.items[*].endpoints[*].addresses[*]}"),
        },
    }
