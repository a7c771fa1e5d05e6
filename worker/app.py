"""The Celery app of the worker: `celery -A worker.app worker`, or better `decoder worker`, which knows the right options."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker

from mission.errors import SettingsError
from mission.hardening import keep_memory_private
from mission.store.messages import celery_config
from worker.observe import logs
from worker.queue import intake, tasks
from worker.runtime import Runtime
from worker.settings import WorkerSettings

# What a worker has beyond the configuration that both sides share.
WORKER_CONFIG: dict[str, Any] = {
    # The work waits on the network; one process a pod, one metrics registry.
    "worker_pool": "threads",
    # With late acknowledgement a message is held only while a thread works it.
    "worker_prefetch_multiplier": 1,
    # Any login that may publish to it could stop workers, and malformed broadcasts kill them.
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": True,
    "worker_consumer": "worker.queue.events:PatientConsumer",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_detect_quorum_queues": False,
    # Redis refuses while it is full or read-only (a master that was demoted): that passes, so connect anew instead of ending.
    "broker_channel_error_retry": True,
}


def _unsaid(*_: object) -> None:
    """Celery's signal handlers write their words to stdout as they are, between lines of JSON; `Runtime` logs the same."""


def make_app(settings: WorkerSettings) -> Celery:
    """The app as the settings say; its parts are built when a worker starts on it."""
    intake.install()
    celery_worker.safe_say = _unsaid
    app = Celery("decoder", fixups=[])
    app.conf.update(celery_config(settings) | WORKER_CONFIG | {"worker_concurrency": settings.concurrency})
    parts: list[Runtime] = []
    tasks.register(app, lambda: parts[0])

    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def keep_logging(**_: Any) -> None:
        """Somebody listens to this signal, so Celery leaves logging as `build` set it up."""

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def build(**_: Any) -> None:
        keep_memory_private()
        os.umask(0o077)  # its files are its own
        logs.configure(settings.log_level, settings.log_format)
        try:
            parts.append(Runtime.build(settings, app))
            parts[0].start()
        except SettingsError as error:
            _refuse(error)

    @signals.heartbeat_sent.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def turn(**_: Any) -> None:
        if parts:
            parts[0].watchdog.loop_beat()

    # Sent from signal handlers: a second SIGTERM may come while the first one holds this lock.
    signals.worker_shutting_down.lock = threading.RLock()

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def stop(**_: Any) -> None:
        if parts:
            parts[0].stop(settings.shutdown_grace)

    return app


def _refuse(error: SettingsError) -> None:
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(2)


try:
    app = make_app(WorkerSettings.from_env())
except SettingsError as problem:
    _refuse(problem)
