"""The tutorial's task on Celery, with its stock settings."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import BROKER_VARIABLE, tutorial

# Hide the app and its task from the process' other apps: the tests have several.
app = Celery("tutorial", broker=os.environ[BROKER_VARIABLE], set_as_current=False)


@app.task(shared=False)  # type: ignore[untyped-decorator]  # celery has no types
def decode(number: int, url: str) -> None:
    """Fetch a URL and store its secrets."""
    tutorial.decode(number, url)


def send(number: int, url: str) -> None:
    """Enqueue a task."""
    decode.delay(number, url)
