"""The chart's daily audit job, run here as the cluster would, with the metrics of kube-state-metrics."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.chart.rendering import environment, find, render

CRON_JOB = "decoder-audit-trim"


class AuditJobs:
    """Runs the commands of the job's containers, one after the other up to the first that fails; a context manager.

    Attributes:
        failed: whether each job failed, by name.
        address: where Prometheus scrapes `kube_job_failed`.

    Args:
        redis_url: with the auditor's login.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self.failed: dict[str, bool] = {}
        jobs = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = jobs._metrics().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self, job: str) -> None:
        """Run a job of this name to its end."""
        spec = find(render(environment("staging")), "CronJob", CRON_JOB)["spec"]["jobTemplate"]["spec"]["template"][
            "spec"
        ]
        env = {"PATH": os.environ["PATH"], "DECODER_REDIS_URL": self._redis_url}
        self.failed[job] = any(
            subprocess.run(
                [sys.executable, "-m", "worker", *container["args"]],
                env=env,
                capture_output=True,
                timeout=60,
                check=False,
            ).returncode
            for container in (*spec["initContainers"], *spec["containers"])
        )

    def delete_failed(self) -> None:
        """Forget all failed jobs."""
        self.failed = {job: failed for job, failed in self.failed.items() if not failed}

    def _metrics(self) -> str:
        labels = 'namespace="decoder",job_name="{}",condition="true"'
        lines = [f"kube_job_failed{{{labels.format(job)}}} {int(failed)}" for job, failed in self.failed.items()]
        return "\n".join(["# TYPE kube_job_failed gauge", *lines, ""])
