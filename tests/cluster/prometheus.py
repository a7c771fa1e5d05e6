"""A real Prometheus on this machine with the drill's shortened rules, which scrapes the cluster's workers through the API server."""

from __future__ import annotations

import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.release import WORKERS
from tests.drill.shorten import shortened_rules
from tests.drill.stage import instant
from tests.observability.tools import RULES, load, program
from worker.local.stack import STOP_SECONDS, running

PORT = 9464


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus and its address."""

    url: str

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Its current result for an expression."""
        return instant(self.url, expression)

    def fired(self, severity: str, seconds: float) -> set[str]:
        """The alerts of a severity (`page`, `ticket`) that fired within the last `seconds`."""
        alerts = f'ALERTS{{alertstate="firing", severity="{severity}"}}'
        found = self.ask(f"last_over_time({alerts}[{round(seconds * 1000)}ms])")
        return {series["metric"]["alertname"] for series in found}


@contextmanager
def running_prometheus(namespace: str, folder: Path) -> Iterator[Prometheus]:
    """Run one for the workers in this namespace of KUBECONFIG's cluster, until the block's end.

    It speaks to `kubectl proxy`, the only part that needs credentials, and which passes only the necessary requests: the list of
    pods, and their metrics. Debian's Prometheus cannot discover pods; a thread does.

    Args:
        namespace: that of the workers.
        folder: for its files.
    """
    pods = f"/api/v1/namespaces/{namespace}/pods"
    (folder / "rules.yaml").write_text(yaml.safe_dump(shortened_rules(load(RULES))))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(_config(folder)))
    with ExitStack() as pieces:
        proxy = [
            *(shutil.which("kubectl") or "kubectl", "proxy", "--port=0", "--reject-methods=POST,PUT,PATCH,DELETE"),
            f"--accept-paths=^{pods}$,^{pods}/[^/]+:{PORT}/proxy/metrics$",
        ]
        child = pieces.enter_context(running("kubectl-proxy", proxy, folder, os.environ, STOP_SECONDS))
        api = child.wait_until(r"127\.0\.0\.1:\d+")[0]
        pieces.enter_context(_discovery(api, pods, folder / "targets.json"))
        command = [
            *(program("prometheus"), f"--config.file={folder / 'prometheus.yaml'}"),
            *(f"--storage.tsdb.path={folder / 'prometheus'}", "--web.listen-address=127.0.0.1:0"),
        ]
        child = pieces.enter_context(running("prometheus", command, folder, {"PATH": "/usr/bin:/bin"}, STOP_SECONDS))
        address = child.wait_until(r'msg="?Listening on"? address=(127\.0\.0\.1:\d+)')[1]
        child.wait_until("Server is ready to receive")
        yield Prometheus(f"http://{address}")


@contextmanager
def _discovery(api: str, pods: str, targets: Path) -> Iterator[None]:
    """Once a second, make the existing worker pods the targets, as the chart's PodMonitor does."""
    stopped = threading.Event()

    def look() -> None:
        with urllib.request.urlopen(f"http://{api}{pods}?labelSelector={WORKERS}", timeout=10) as answer:
            found = json.load(answer)["items"]
        there = [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running") and "podIP" in pod["status"]]
        labels = [_labels(pod, pods) for pod in there]
        new = targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": [api], "labels": each} for each in labels]))
        new.replace(targets)

    def watch() -> None:
        while not stopped.wait(1):
            with suppress(OSError):  # while the API server is away, the targets stay
                look()

    look()
    thread = threading.Thread(target=watch, name="discovery", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _labels(pod: dict[str, Any], pods: str) -> dict[str, str]:
    name = pod["metadata"]["name"]
    return {
        "__metrics_path__": f"{pods}/{name}:{PORT}/proxy/metrics",
        "instance": name,
        "job": "decoder-worker",
        "environment": "staging",
        "release": pod["metadata"]["labels"]["app.kubernetes.io/instance"],
    }


def _config(folder: Path) -> dict[str, Any]:
    discovery = {"files": [str(folder / "targets.json")], "refresh_interval": "1s"}
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [{"job_name": "workers", "file_sd_configs": [discovery]}],
    }
