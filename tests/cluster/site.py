"""The drill's misbehaving site as a pod: the target of missions in the cluster."""

from __future__ import annotations

import inspect
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from tests.chart.rendering import Object, Values
from tests.cluster.kubernetes import Cluster
from tests.drill import site

PORT = 8080
# A port of the service with no listener.
CLOSED = PORT + 1
LABELS = {"app": "site"}
# Two names of the same pod: alerts count how many entries of the allowlist fail.
NAMES = ("site", "mirror")
_MAIN = f"""
import threading
from pages import Site
with Site({PORT}, host="0.0.0.0"):
    threading.Event().wait()
"""


@dataclass(frozen=True, slots=True)
class ClusterSite:
    """The site's addresses. Its paths are those of `tests.drill.site`: `/good`, `/plain`, `/gone`, `/broken`, `/flaky`, `/slow/SECONDS`.

    Attributes:
        entry: its name in the allowlist.
        mirror: its other name.
        networks: the services' addresses, and a range around its pod's address.
    """

    entry: str
    mirror: str
    networks: tuple[str, ...]

    @property
    def url(self) -> str:
        """Its base URL, without a trailing slash."""
        return f"http://{self.entry}"

    def values(self) -> Values:
        """The chart's values that let workers reach it, and `helm test` as well."""
        return {
            "config": {
                "allowedHosts": [self.entry, self.mirror],
                "allowedSchemes": ["http"],
                "allowedNetworks": list(self.networks),
            },
            "networkPolicy": {"webPorts": [PORT, CLOSED]},
            "test": {"url": f"{self.url}/good", "secrets": site.SECRET.count(b"{*")},
        }


def start_site(cluster: Cluster, namespace: str) -> ClusterSite:
    """Start it in this namespace, and wait until it is ready."""
    items = {"apiVersion": "v1", "kind": "List", "items": _objects(cluster.image, namespace)}
    cluster.kubectl("apply", "-f", "-", given=json.dumps(items))
    cluster.kubectl("-n", namespace, "rollout", "status", "deploy/site", "--timeout=3m")

    def asked(kind: str, path: str) -> list[str]:
        found = cluster.kubectl("-n", namespace, "get", kind, "-l", "app=site", "-o", f"jsonpath={{.items[*].{path}}}")
        return found.split()

    services, (pod,) = asked("services", "spec.clusterIP"), asked("pods", "status.podIP")
    # Network policies match the pod's address, and a replacement pod gets an address near it.
    near = ipaddress.ip_network(f"{pod}/{64 if ':' in pod else 24}", strict=False)
    entry, mirror = (f"{name}.{namespace}.svc.cluster.local:{PORT}" for name in NAMES)
    return ClusterSite(entry, mirror, (*(str(ipaddress.ip_network(service)) for service in services), str(near)))


def _objects(image: str, namespace: str) -> list[Object]:
    metadata = {"name": "site", "namespace": namespace, "labels": LABELS}
    container: dict[str, Any] = {
        "name": "site",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _MAIN],
        "env": [{"name": "PYTHONPATH", "value": "/site"}],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/good", "port": "http"}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "volumeMounts": [{"name": "pages", "mountPath": "/site"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        # It also stays on a draining node: its documents must be available whatever happens to the workers.
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "pages", "configMap": {"name": "site"}}],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    ports = [{"name": name, "port": port} for name, port in (("http", PORT), ("closed", CLOSED))]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"pages.py": inspect.getsource(site)}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": LABELS}, "template": template},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata | {"name": name},
                "spec": {"selector": LABELS, "ports": ports},
            }
            for name in NAMES
        ),
    ]
