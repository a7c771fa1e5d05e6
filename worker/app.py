"""The Celery app of the worker: `celery -A worker.app worker`, or better `decoder worker`, which sets the right options."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any, NoReturn

from celery import Celery, signals
from celery.apps.worker import Worker
from celery.worker import state

from mission.cli.console import fail
from mission.errors import SettingsError
from mission.hardening import keep_memory_private
from mission.store.messages import celery_config
from worker.observe import logs
from worker.queue import control, functions, guard, intake, tasks
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.work.memory import give_back_at_once

# Settings of the worker, in addition to those that it shares with the producer.
WORKER_CONFIG: dict[str, Any] = {
    # Missions mostly wait for the network; each pod has one process and one metrics registry.
    "worker_pool": "threads",
    # With late acknowledgement, a worker holds a message only while a thread works on it.
    "worker_prefetch_multiplier": 1,
    # Any Redis login that may publish to it could stop workers, and malformed broadcasts kill them.
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": True,
    # Kombu would renew the expiry of Flower's queue with a script, which Flower's login may not run. Events use channels anyway.
    "event_queue_expires": None,
    "worker_consumer": "worker.queue.events:PatientConsumer",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_detect_quorum_queues": False,
    # Redis refuses writes while it is full or read-only (a demoted master). That passes, so reconnect instead of exiting.
    "broker_channel_error_retry": True,
}


def make_app(settings: WorkerSettings) -> Celery:
    """Return the app for these settings; its parts are built when a worker starts."""
    app = Celery("decoder", amqp=intake.GuardedAMQP, control=control.HeartbeatControl, fixups=[])
    app.conf.update(celery_config(settings) | WORKER_CONFIG | {"worker_concurrency": settings.concurrency})
    app.conf.broker_transport_options["room"] = lambda: parts[0].coordinator.room()
    app.steps["consumer"].add(guard.GuardCheck)
    app.steps["consumer"].add(functions.FunctionCheck)
    parts: list[Runtime] = []
    tasks.register(app, lambda: parts[0])

    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def keep_logging(**_: Any) -> None:
        """Do nothing: a listener on this signal keeps Celery from changing the logging that `build` sets up."""

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def build(**_: Any) -> None:
        keep_memory_private()
        give_back_at_once()
        os.umask(0o077)  # only its user may read its files
        logs.configure(settings.log_level, settings.log_format)
        try:
            parts.append(Runtime.build(settings))
            parts[0].start()
        except SettingsError as error:
            _refuse(error)
        _collect_seldom()

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def work(**_: Any) -> None:
        """Start the coordinator; Celery sends this signal after each checked connection."""
        parts[0].coordinator.start()

    @signals.heartbeat_sent.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no types
    def turn(**_: Any) -> None:
        if parts:
            parts[0].watchdog.loop_beat()

    def end(*_: object) -> None:
        """Shut down in order. A second signal may interrupt this handler, so it takes no lock and writes nothing."""
        if parts:
            parts[0].stop(settings.shutdown_grace)
        state.should_stop = os.EX_OK

    class Program(Worker):  # type: ignore[misc]  # celery has no types
        """Celery's worker without its signal handlers. They write between the JSON lines on stdout, a second signal waits for
        a lock that the first one holds, and SIGUSR1 prints the local variables of all threads.
        """

        def install_platform_tweaks(self, *_: object) -> None:
            """Shut down on the usual signals, except those that are already ignored: `nohup` relies on that."""
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, end)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    app.Worker = app.subclass_with_self(Program)
    return app


def _collect_seldom() -> None:
    """Exclude the existing objects from garbage collection, and collect less often. Saves about 2 % of a worker's CPU time.

    A successful mission leaves no reference cycles, a failed one leaves a few small ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def _refuse(error: SettingsError) -> NoReturn:
    fail(str(error), *error.more, code=2)


try:
    app = make_app(WorkerSettings.from_env())
except SettingsError as problem:
    _refuse(problem)
