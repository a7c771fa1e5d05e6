"""The running parts of a drill: Valkey, workers, Prometheus with the shortened rules, Alertmanager, the receiver."""

from __future__ import annotations

import itertools
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import redis
import yaml

from mission.errors import DecoderError
from mission.seal.sealing import Identity
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.settings import Settings
from mission.store.connection import connect
from producer import MissionClient
from tests.conftest import wait_for
from tests.drill.jobs import AuditJobs
from tests.drill.receiver import Receiver
from tests.drill.shorten import rehearsed_routing, shortened_rules
from tests.drill.site import Site
from tests.observability.tools import ALERTMANAGER, RULES, load, program
from tests.servers.sockets import free_port
from worker.local.children import end_child, start_child
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import Child, Flower, running_flower, running_worker

LABELS = {"environment": "drill", "release": "decoder"}
START_SECONDS = 60.0
TRAFFIC_PER_SECOND = 4
# A port of 127.0.0.2, which the allowlist names and the address guard refuses.
FORBIDDEN_PORTS = (22, 80, 6379)
MAX_MEMORY = "1gb"


class Traffic:
    """Enqueues missions at a steady rate from a thread: each URL with its own rate per second, made unique by a number as the query."""

    def __init__(self, client: MissionClient) -> None:
        self._client = client
        self._rates: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="traffic", daemon=True)
        self._thread.start()

    def set(self, rates: Mapping[str, float]) -> None:
        """Switch to these URLs, each with its rate per second."""
        self._rates = dict(rates)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        due: dict[str, float] = {}
        pace = 0.5
        numbers = itertools.count()
        while not self._stopped.wait(pace):
            batch = []
            for url, rate in self._rates.items():
                due[url] = due.get(url, 0.0) + rate * pace
                batch += [f"{url}?{next(numbers)}" for _ in range(int(due[url]))]
                due[url] %= 1
            try:
                list(self._client.enqueue_many(batch))
            except DecoderError:
                continue  # the scenario took Redis away or filled the queue


class Workers:
    """Worker processes that Prometheus scrapes, each on a separate port that it keeps across restarts."""

    def __init__(self, folder: Path, values: Mapping[str, str], targets: Path) -> None:
        self._folder = folder
        self._values = dict(values)
        self._targets = targets
        self._running: dict[str, tuple[ExitStack, Child]] = {}
        self._ports: dict[str, int] = {}
        self._changes: Mapping[str, str] = {}

    def set(self, changes: Mapping[str, str]) -> None:
        """Start further workers with these settings in addition to the first ones."""
        self._changes = changes

    def states(self) -> dict[str, bool]:
        """The workers that Prometheus scrapes, and whether each runs."""
        return {
            name: name in self._running and self._running[name][1].process.poll() is None for name in list(self._ports)
        }

    def start(self, name: str) -> None:
        """Start a worker, and add it to the scrapes."""
        port = self._ports.setdefault(name, free_port())
        folder = self._folder / f"{name}-{time.monotonic_ns()}"
        folder.mkdir(mode=0o700)
        pieces = ExitStack()
        values = self._values | dict(self._changes)
        child = pieces.enter_context(running_worker(folder, values | {"metrics_port": str(port)}))
        self._running[name] = pieces, child
        self._announce()
        child.wait_until(r"metrics on port \d+")

    def kill(self, name: str) -> None:
        """Send SIGKILL. Prometheus still scrapes it, without success."""
        pieces, child = self._running.pop(name)
        child.process.kill()
        pieces.close()

    def end(self, name: str) -> None:
        """Send SIGTERM if it runs."""
        if name in self._running:
            self._running.pop(name)[0].close()

    def leave(self, name: str) -> None:
        """Remove it from the scrapes, like a pod that is gone."""
        self.end(name)
        del self._ports[name]
        self._announce()

    def stop(self) -> None:
        """End all of them."""
        for pieces, _ in self._running.values():
            pieces.close()
        self._running.clear()

    def logs(self) -> str:
        """The logs of all workers, including those that are gone."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*/worker.log")))

    def _announce(self) -> None:
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": LABELS} for port in self._ports.values()]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.replace(self._targets)


class Server(EmbeddedRedis):
    """A Valkey with a memory limit, as in production, which it keeps after a restart."""

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        with redis.Redis.from_url(self.url) as client:
            client.config_set("maxmemory", MAX_MEMORY)


class Stage:
    """All parts; a context manager.

    Args:
        folder: their working folder.
        flower: run Flower as well, and scrape it.
    """

    def __init__(self, folder: Path, *, flower: bool = False) -> None:
        self._folder = folder
        self._pieces = ExitStack()
        self._with_flower = flower
        self.flower: Flower | None = None
        self._programs: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._pieces.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.close()

    def _start(self) -> None:
        enter = self._pieces.enter_context
        # Checked first, so that a machine without them fails at once.
        prometheus, alertmanager = program("prometheus"), program("prometheus-alertmanager")
        self.receiver = enter(Receiver())
        self.site = enter(Site())
        self.other_site = enter(Site(host="127.0.0.3"))  # another entry of the allowlist
        self.dead_port = free_port()
        self.server = enter(Server())
        self.jobs = enter(AuditJobs(self.server.login_url("auditor")))
        identity, url_key = Identity.generate(), generate_url_key()
        self.url_key_id = UrlKeyring.parse(url_key).key_ids[0]
        self.recipients = self._subfolder("recipients")
        self.credentials = self._folder / "credentials.toml"
        self.credentials.touch(0o600)
        entry = f'["127.0.0.1:{self.site.port}".headers]'
        self.credentials.write_text(f'{entry}\nX-Api-Key = "{secrets.token_urlsafe(24)}"\n')
        self.settings = Settings.from_env(redis_url=self.server.url, url_key=url_key)
        self.redis: redis.Redis = enter(connect(self.settings))
        values = {
            "redis_url": self.server.login_url("worker"),
            "url_key": url_key,
            "recipient": identity.recipient.text,
            "recipients": str(self.recipients),
            "credentials": str(self.credentials),
            "allowed_hosts": ",".join(
                [f"127.0.0.1:{port}" for port in (self.site.port, self.dead_port)]
                + [f"127.0.0.3:{self.other_site.port}"]
                + [f"127.0.0.2:{port}" for port in FORBIDDEN_PORTS]
            ),
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.1/32,127.0.0.3/32",
            "metrics_host": "127.0.0.1",
            "concurrency": "64",
            "host_concurrency": "64",
            "fetch_attempts": "2",
            "max_attempts": "3",
            "log_format": "json",
            "log_level": "info",
            "markers": "{* *}",
            "detectors": "marker,provider,generic",
            "shutdown_grace": "5s",  # below the stack's own, as in the chart: a worker releases its missions before it is killed
        }
        targets = self._folder / "targets.json"
        self.workers = Workers(self._subfolder("workers"), values, targets)
        self._pieces.callback(self.workers.stop)
        self.workers.start("first")
        flower_target = self._start_flower(values)
        alerts = f"127.0.0.1:{free_port()}"
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        _write(self._folder / "rules.yaml", shortened_rules(load(RULES)))
        _write(self._folder / "alertmanager.yaml", rehearsed_routing(load(ALERTMANAGER), self.receiver.url))
        _write(self._folder / "prometheus.yaml", _prometheus_config(targets, alerts, self.jobs.address, flower_target))
        self._program(
            "alertmanager",
            [
                alertmanager,
                f"--config.file={self._folder}/alertmanager.yaml",
                f"--storage.path={self._subfolder('alertmanager')}",
                f"--web.listen-address={alerts}",
                "--cluster.listen-address=",
            ],
            f"http://{alerts}/-/ready",
        )
        self._program(
            "prometheus",
            [
                prometheus,
                f"--config.file={self._folder}/prometheus.yaml",
                f"--storage.tsdb.path={self._subfolder('prometheus')}",
                f"--web.listen-address={self.prometheus.removeprefix('http://')}",
                "--rules.alert.resend-delay=2s",
            ],
            f"{self.prometheus}/-/ready",
        )
        self.client = MissionClient(self.settings)
        self.traffic = Traffic(self.client)
        self._pieces.callback(self.traffic.stop)
        # Before its first scrape Prometheus has no worker, and alerts.
        wait_for(
            lambda: self.ask('up{job="decoder-worker"} == 1') and not self.ask('ALERTS{severity!="heartbeat"}'),
            what="the first scrape",
        )
        wait_for(lambda: not self.receiver.open(), what="a quiet start")

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Prometheus' current result for an expression."""
        return instant(self.prometheus, expression)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """One of the programs (`prometheus`, `alertmanager`) is stopped while the block runs."""
        self._programs[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._programs[name].send_signal(signal.SIGCONT)

    def history(self, expression: str, seconds: float, step: float) -> list[dict[str, Any]]:
        """Prometheus' results for an expression at each step of the last `seconds`."""
        now = time.time()
        query = urllib.parse.urlencode({"query": expression, "start": now - seconds, "end": now, "step": step})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query_range?{query}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def _start_flower(self, values: Mapping[str, str]) -> dict[str, Any] | None:
        if not self._with_flower:
            return None
        self.flower = self._pieces.enter_context(
            running_flower(self._subfolder("flower"), dict(values) | {"redis_url": self.server.login_url("flower")})
        )
        user, _, password = self.flower.login.partition(":")
        return {
            "job_name": "decoder-flower",
            "static_configs": [{"targets": [self.flower.url.removeprefix("http://")], "labels": LABELS}],
            "basic_auth": {"username": user, "password": password},
        }

    def _program(self, name: str, command: Sequence[str], ready: str) -> None:
        log = self._folder / f"{name}.log"
        process = start_child(list(command), folder=self._folder, log=log, env={"PATH": "/usr/bin:/bin"})
        self._programs[name] = process
        self._pieces.callback(end_child, process, grace=10.0)
        until = time.monotonic() + START_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                sys.stderr.write(log.read_text()[-2000:])
                raise DecoderError(f"{name} does not start")
            time.sleep(0.1)

    def _subfolder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        return folder


def instant(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """The current result for an expression of the Prometheus at this address."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def _prometheus_config(targets: Path, alertmanager: str, jobs: str, flower: dict[str, Any] | None) -> dict[str, Any]:
    workers = {
        "job_name": "decoder-worker",
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }
    kube_state_metrics = {"job_name": "kube-state-metrics", "static_configs": [{"targets": [jobs]}]}
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(targets.parent / "rules.yaml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [workers, kube_state_metrics, *([flower] if flower else [])],
    }


def _write(path: Path, content: Any) -> None:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
