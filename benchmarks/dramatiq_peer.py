"""The tutorial's task on Dramatiq, with its stock settings."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import BROKER_VARIABLE, tutorial

dramatiq.set_broker(RedisBroker(url=os.environ[BROKER_VARIABLE]))  # type: ignore[no-untyped-call]  # it leaves this one untyped


@dramatiq.actor
def decode(number: int, url: str) -> None:
    """Fetch a URL and store its secrets."""
    tutorial.decode(number, url)


def send(number: int, url: str) -> None:
    """Enqueue a message."""
    decode.send(number, url)
