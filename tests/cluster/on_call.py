"""A person on call with only the runbook, and the release `decoder` in a cluster: their commands and their access."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from mission.seal.sealing import Identity
from mission.settings import Settings
from mission.store.connection import connect
from producer import MissionClient
from tests.cluster.kubernetes import CommandFailed
from tests.cluster.prometheus import Prometheus
from tests.cluster.release import Release
from tests.cluster.secrets import CREDENTIALS, credentials_for
from tests.cluster.site import PORT
from tests.conftest import wait_for
from tests.documents.document import Block
from tests.documents.shell import Typed, type_in
from worker.local.stack import STOP_SECONDS, running

# The site's name in the runbook's patterns.
HOST = (r"docs\.example\.com", r"[\w.-]+\.svc\.cluster\.local")


@dataclass(slots=True)
class OnCall:
    """Works on one release.

    Attributes:
        filled_in: a reader's values for the placeholders in capital letters, in addition to the constant ones.

    Args:
        release: the release in trouble.
        prometheus: the server that scrapes it.
        folder: the working folder.
    """

    release: Release
    prometheus: Prometheus
    folder: Path
    filled_in: dict[str, str] = field(default_factory=dict)

    def type(self, block: Block) -> list[Typed]:
        """Run a block's commands in a shell; a port-forward runs until it answers."""
        lines = [command.line for command in block.commands]
        env = {
            "KUBECONFIG": os.environ["KUBECONFIG"],
            "PROMETHEUS_URL": self.prometheus.url,
            "URL": f"{self.release.site.url}/good",
            "GOOD_HOSTS": self.release.site.entry,
            "SUBMITTER": "somebody",
            "FILE": "somebody.pub",
            "CREDENTIALS": "credentials",
        }
        with ExitStack() as pieces:
            if any(line.startswith(("decoder ", "mission ")) for line in lines):
                valkey = pieces.enter_context(self.forwarded("decoder-valkey", 6379))
                env["DECODER_REDIS_URL"] = self.release.store.redis_url("operator", valkey)
            if any("curl" in line for line in lines):
                env["URL"] = f"http://{pieces.enter_context(self.forwarded('site', PORT))}/good"
            if any("port-forward" in line for line in lines):
                return [self._forward(block)]
            (self.folder / "somebody.pub").write_text(Identity.generate().recipient.text + "\n")
            (self.folder / "credentials").mkdir(exist_ok=True)
            (self.folder / "credentials" / CREDENTIALS).write_text(credentials_for(self.release.site.entry))
            for name in ("new-reader.key", "new-reader.pub", "new-url.key"):
                (self.folder / name).unlink(missing_ok=True)
            return type_in(block, env | self.filled_in, self.folder, as_here=lambda text: text.replace(*HOST))

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """A service's port on this machine, as `HOST:PORT`."""
        line = f"kubectl -n {self.release.store.namespace} port-forward svc/{service} :{port}"
        with running(f"forward-{service}", ["/bin/sh", "-c", f"exec {line}"], self.folder, os.environ, 1.0) as child:
            try:
                yield child.wait_until(r"Forwarding from (127\.0\.0\.1:\d+)")[1]
            finally:
                child.log.unlink()

    @contextmanager
    def redis(self, login: str) -> Iterator[redis.Redis]:
        """A client of Valkey with a login."""
        with (
            self.forwarded("decoder-valkey", 6379) as address,
            connect(Settings.from_env(redis_url=self.release.store.redis_url(login, address))) as client,
        ):
            yield client

    @contextmanager
    def producer(self, **settings: object) -> Iterator[MissionClient]:
        """An app that enqueues."""
        with self.forwarded("decoder-valkey", 6379) as address:
            url = self.release.store.redis_url("producer", address)
            given = Settings.from_env(redis_url=url, url_key=self.release.store.url_key)
            yield MissionClient(given.model_copy(update=settings))

    def enqueue(self, path: str, count: int = 1) -> None:
        """Enqueue this many missions to a path of the site, or to a URL."""
        url = path if path.startswith("http") else f"{self.release.site.url}{path}"
        with self.producer() as client:
            list(client.enqueue_many([f"{url}?{number}" for number in range(count)]))

    def finish(self, *paths: str) -> str:
        """Run a mission to each of these to its end; return the last id."""
        with self.producer() as client:
            for path in paths:
                mission = client.enqueue(f"{self.release.site.url}{path}").id
                client.wait(mission, timeout=180)
        return mission

    def is_well(self) -> None:
        """Wait until at least two workers are ready, find everything in order, and are scraped by Prometheus."""
        kubectl = self.release.kubectl
        if int(kubectl("get", "deploy/decoder-worker", "-o", "jsonpath={.spec.replicas}")) < 2:
            kubectl("scale", "deploy/decoder-worker", "--replicas=2")
        for what in ("statefulset/decoder-valkey", "deploy/decoder-worker"):
            kubectl("rollout", "status", what, "--timeout=3m")
        assert all(map(self.is_in_order, self.release.workers()))
        workers = {pod["metadata"]["name"] for pod in self.release.workers()}
        wait_for(
            lambda: {item["metric"]["instance"] for item in self.prometheus.ask("up == 1")} >= workers,
            seconds=60,
            what="the workers' metrics",
        )

    def is_in_order(self, pod: dict[str, Any]) -> bool:
        """Whether `decoder doctor` finds no problem in a worker."""
        words = ("exec", pod["metadata"]["name"], "--container", "worker", "--", "decoder", "doctor")
        try:
            return bool(self.release.kubectl(*words))
        except CommandFailed as error:
            print(error)
            return False

    def _forward(self, block: Block) -> Typed:
        (command,) = block.commands
        shell = ["/bin/sh", "-c", f"exec {command.line}"]
        with running("forward", shell, self.folder, os.environ, STOP_SECONDS) as child:
            found = child.wait_until(r"Forwarding from (127\.0\.0\.1:\d+)")
            with urllib.request.urlopen(f"http://{found[1]}/healthcheck", timeout=30) as answer:
                assert answer.read() == b"OK"
        return Typed(command, 0, child.log.read_text())
