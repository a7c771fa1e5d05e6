"""Missions under way: the app of stream.py as a pod, and its reports."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.cluster import stream
from tests.cluster.kubernetes import CommandFailed
from tests.cluster.release import NAMESPACE, Release
from tests.cluster.secrets import OWNER
from tests.conftest import wait_for

POD = "stream"


@dataclass(frozen=True, slots=True)
class Traffic:
    """A running app. It enqueues until `end`."""

    release: Release

    def lines(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Its reports since a time (seconds since 1970), a line a second."""
        said = [json.loads(line) for line in self.release.kubectl("logs", POD).splitlines()]
        return [line for line in said if line.get("at", 0.0) >= since or "verdict" in line]

    def flows(self, since: float) -> bool:
        """Whether missions accepted since that time end within seconds again."""
        with suppress(CommandFailed):  # without the kubelet, a pod's output is unavailable
            return any(line.get("oldest", 99.0) < min(5.0, line["at"] - since) for line in self.lines(since)[-1:])
        return False

    def longest_wait(self, since: float) -> float:
        """The highest age that an unfinished mission reached, in seconds."""
        return max((float(line["oldest"]) for line in self.lines(since) if "oldest" in line), default=0.0)

    def replay(self) -> None:
        """Requeue dead missions, as a person on call does after a bad release is gone."""
        words = 'decoder dead-letters replay --all --why "INC-1: the release is gone"'
        self.release.kubectl("exec", POD, "--", "sh", "-c", f"DECODER_REDIS_URL=$OWNER_REDIS_URL {words}")

    def end(self) -> dict[str, int]:
        """Stop the missions; return the verdict once all have ended."""
        self.release.kubectl("exec", POD, "--", "python", "-c", f"open({str(stream.STOP)!r}, 'w')")
        wait_for(lambda: "verdict" in self.lines()[-1], seconds=900, what="the end of the stream's missions")
        verdict: dict[str, int] = self.lines()[-1]["verdict"]
        return verdict


@contextmanager
def traffic(release: Release, *, per_second: float, at_least: int) -> Iterator[Traffic]:
    """Enqueue missions at a steady rate, each with a result to open."""
    urls = [f"http://{entry}/good" for entry in (release.site.entry, release.site.mirror)]
    items = _objects(release, [str(per_second), str(at_least), *urls])
    release.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    try:
        release.kubectl("wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=1m")
        running = Traffic(release)
        wait_for(running.lines, seconds=60, what="the stream's first words")
        yield running
    finally:
        release.kubectl("delete", f"pod/{POD}", "--grace-period=1")


def _objects(release: Release, arguments: list[str]) -> list[dict[str, Any]]:
    metadata = {"name": POD, "namespace": NAMESPACE, "labels": {"app": POD}}
    store = release.store
    secret = {
        "DECODER_REDIS_URL": store.data["producer-redis-url"],
        "OWNER_REDIS_URL": store.data[f"{OWNER}-redis-url"],
        "DECODER_URL_KEY": store.url_key,
        "IDENTITY": store.identity.text,
    }
    container = {
        "name": POD,
        "image": release.cluster.images["reads-next"],  # it must read what every release writes
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/stream/stream.py", *arguments],
        "envFrom": [{"secretRef": {"name": POD}}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "program", "mountPath": "/stream"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        # It continues on a draining node.
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": POD}}],
    }
    source = {"stream.py": inspect.getsource(stream)}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": source},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
    ]
