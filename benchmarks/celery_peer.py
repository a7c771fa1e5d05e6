"""The tutorial's task on Celery, with its stock settings."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import BROKER_VARIABLE, tutorial

# No other app of the process is to see it, or its task: the tests have several.
app = Celery("tutorial", broker=os.environ[BROKER_VARIABLE], set_as_current=False)


@app.task(shared=False)  # type: ignore[untyped-decorator]  # celery has no types
def decode(number: int, url: str) -> None:
    """The task."""
    tutorial.decode(number, url)


def send(number: int, url: str) -> None:
    """Enqueue one."""
    decode.delay(number, url)
