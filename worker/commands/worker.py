"""`decoder worker`: runs the Celery worker."""

from __future__ import annotations

import logging
import os
import socket

import click

from mission.cli.help import Command
from worker.local.processes import split
from worker.observe import logs
from worker.settings import WorkerSettings

# The settings that a worker requires, and those to tune first.
_MATTER = (
    *("redis_url", "redis_ca_file", "url_key", "recipient", "recipients", "allowed_hosts", "allowed_networks"),
    "credentials",
    *("concurrency", "deadline", "lease_seconds", "max_attempts", "metrics_port", "log_level", "log_format"),
)


@click.command(cls=Command, settings=WorkerSettings, reads=_MATTER)
@click.option("--concurrency", type=click.IntRange(1, 1024), help="Concurrent fetches.  [default: DECODER_CONCURRENCY]")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    help="Worker processes; each has its own core if there are enough.  [default: 1]",
)
def worker(concurrency: int | None, processes: int) -> None:
    """Run a worker until SIGTERM.

    DECODER_… variables configure it; `decoder settings` lists them. With several processes, each has `--concurrency` fetches, a metrics
    port (9464, 9465, …), a health file (FILE.0, FILE.1, …; a probe of FILE checks them all) and an equal share of the cgroup's memory. A process
    that dies is restarted; a signal shuts all down in order.

    \b
    Example, with two processes:
      DECODER_REDIS_URL=redis://127.0.0.1:6379/0 DECODER_URL_KEY=url.key \\
      DECODER_RECIPIENT=reader.pub DECODER_ALLOWED_HOSTS=docs.example.com decoder worker --processes 2
    """
    if concurrency is not None:
        os.environ["DECODER_CONCURRENCY"] = str(concurrency)
    own = WorkerSettings.from_env()
    if processes > 1:
        split(processes, own)
        own = WorkerSettings.from_env()
    logs.configure(own.log_level, own.log_format)
    for sentence in WorkerSettings.misspelt():
        logging.getLogger("decoder.settings").warning(sentence)
    logging.captureWarnings(True)  # Celery warns before it sets up its logging
    from worker.app import app  # reads the settings, so it is imported only now

    # Flower distinguishes workers by this name, even several on one host.
    name = f"decoder-{os.getpid()}@{socket.gethostname()}"
    node = app.Worker(hostname=name, loglevel=own.log_level, quiet=True, without_gossip=True, without_mingle=True)
    node.start()
    raise SystemExit(node.exitcode or 0)  # Celery's own `worker_main` would drop it
