"""A worker without observability, only for comparison in `benchmarks.observability`: `python -m benchmarks.unwatched`."""

from __future__ import annotations

import logging
from wsgiref.simple_server import WSGIServer

from celery import signals
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from benchmarks import PROCESSES
from worker.local.processes import split
from worker.observe import logs, scrapes
from worker.settings import WorkerSettings


def _nothing(*_: object, **__: object) -> None:
    """Replaces a metric's update."""


def _myself(metric: MetricWrapperBase, *_: object, **__: object) -> MetricWrapperBase:
    """Replaces a lookup by labels."""
    return metric


def _no_server(*_: object, **__: object) -> tuple[WSGIServer | None, int]:
    return None, 0


def main() -> None:
    """Remove the metrics and their server, all logs and all events; then run the usual worker."""
    for kind, names in ((Counter, ["inc"]), (Gauge, ["inc", "dec", "set"]), (Histogram, ["observe"])):
        for name in names:
            setattr(kind, name, _nothing)
    split(PROCESSES, WorkerSettings.from_env())
    setattr(MetricWrapperBase, "labels", _myself)  # noqa: B010 (mypy does not let a method be assigned)
    setattr(scrapes, "serve", _no_server)  # noqa: B010 (as above)
    setattr(logs, "configure", _nothing)  # noqa: B010 (as above)
    logging.disable()

    from worker.app import app  # reads the settings, and the parts above

    app.conf.worker_send_task_events = False
    # A benchmark waits for this line, which the log does not have here. It is one write, since all processes share one file.
    signals.worker_ready.connect(lambda **_: print("ready\n", end="", flush=True), weak=False)
    app.Worker(quiet=True, without_gossip=True, without_mingle=True).start()


if __name__ == "__main__":
    main()
