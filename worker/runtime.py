"""Assembles the parts of a worker process: ledger, pipeline, coordinator, reaper, metrics."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Self

from mission.admission import Admitter
from mission.audit.log import AuditLog
from mission.errors import LedgerUnavailable
from mission.seal.url_keys import UrlKeyring
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.names import Key
from mission.store.server import Server
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.key_watch import KeyWatch
from worker.keys.recipients import Recipients
from worker.observe import metrics
from worker.observe.collectors import read_vitals
from worker.observe.health import Heartbeat
from worker.observe.scrapes import serve
from worker.settings import URGENT_FETCHES, WorkerSettings
from worker.work import cgroup
from worker.work.coordinator import Coordinator
from worker.work.hosts import Hosts
from worker.work.memory import Memory, limit
from worker.work.pipeline import Pipeline
from worker.work.reaper import Reaper
from worker.work.watchdog import Watchdog

log = logging.getLogger("decoder.worker")


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a worker process that the tasks use."""

    settings: WorkerSettings
    ledger: Ledger
    admitter: Admitter
    coordinator: Coordinator
    reaper: Reaper
    watchdog: Watchdog
    keys: Callable[[], list[tuple[str, str]]]
    key_watch: KeyWatch
    ending: SimpleQueue[float] = field(default_factory=SimpleQueue)

    @classmethod
    def build(cls, settings: WorkerSettings) -> Self:
        """Read the keys and assemble the parts, without starting or connecting anything.

        Raises:
            SettingsError: a key is missing or invalid, or the memory limit is too low.
        """
        keyring = UrlKeyring.from_settings(settings)
        policy = UrlPolicy.from_settings(settings)
        ledger = Ledger(connect(settings), settings)
        hosts = Hosts(ledger, settings.host_concurrency)
        # As many look-ups as fetches: no fetch queues behind names whose servers are dead.
        resolver = Resolver(threads=settings.concurrency + URGENT_FETCHES)
        fetcher = Fetcher(settings, policy, resolver)
        recipients = Recipients(settings)
        memory = Memory(settings)
        pipeline = Pipeline(
            settings, keyring=keyring, recipients=recipients, policy=policy, fetcher=fetcher, hosts=hosts, memory=memory
        )
        key_watch = KeyWatch(
            lambda: {"DECODER_URL_KEY": keyring.key_ids[0]} | recipients.in_use(),
            AuditLog(ledger.client, emit=_to_stdout, chain=Key.AUDIT_KEYS),
        )
        coordinator = Coordinator(ledger, pipeline, settings)
        reaper = Reaper(ledger, hosts, settings.max_attempts, settings.lease_seconds)
        return cls(
            settings=settings,
            ledger=ledger,
            admitter=Admitter(ledger, keyring, settings),
            coordinator=coordinator,
            reaper=reaper,
            watchdog=Watchdog(
                Heartbeat(settings.health_file),
                coordinator.oldest_seconds,
                settings.lease_seconds,
                reaper.ledger_answers,
            ),
            keys=lambda: [("url", keyring.key_ids[0]), *(("recipient", key) for key in recipients.key_ids())],
            key_watch=key_watch,
        )

    def start(self) -> None:
        """Serve metrics and start the background threads. `Coordinator.start` begins to work on missions.

        Raises:
            SettingsError: the metrics port is in use.
        """
        metrics.CPU_LIMIT.set(cgroup.cores() or os.cpu_count() or 1)
        metrics.MEMORY_LIMIT.set(limit(self.settings))
        server = Server(self.ledger.client)
        metrics.LEDGER.read = lambda: read_vitals(self.ledger, server, self.keys())
        _, port = serve(self.settings.metrics_port, self.settings.metrics_host)
        log.info("metrics on port %d", port, extra={"server.port": port})
        self.reaper.start()
        self.watchdog.start()
        self.key_watch.start()
        threading.Thread(target=self._end, name="ending", daemon=True).start()

    def stop(self, grace_seconds: float) -> None:
        """Stop claiming; after the grace period, release in-flight missions and end the process, even if a thread hangs.

        Celery itself waits for running tasks without a limit. This runs in a signal handler, which a second signal may
        interrupt: a lock that the first SIGTERM takes here would block the second forever. `SimpleQueue.put` is reentrant.
        """
        self.ending.put(grace_seconds)

    def _end(self) -> None:
        grace_seconds = self.ending.get()
        log.info("shutting down: in-flight missions have %g s", grace_seconds)
        self.coordinator.close()
        self.watchdog.stop()
        self.reaper.stop()
        self.key_watch.stop()
        time.sleep(grace_seconds)
        try:
            released = self.coordinator.release_all()
            log.warning("the grace period is over; released %d missions", released)
        except LedgerUnavailable as error:
            log.warning("the grace period is over; missions return when their leases expire: %s", error)
        finally:
            logging.shutdown()
            os._exit(0)


def _to_stdout(line: str) -> None:
    """Write a whole line to stdout, between the worker's log lines."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
