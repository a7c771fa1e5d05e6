"""The same body as an actor of Dramatiq, with its stock settings."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import BROKER_VARIABLE, tutorial

dramatiq.set_broker(RedisBroker(url=os.environ[BROKER_VARIABLE]))  # type: ignore[no-untyped-call]  # it leaves this one untyped


@dramatiq.actor
def decode(number: int, url: str) -> None:
    """The actor."""
    tutorial.decode(number, url)


def send(number: int, url: str) -> None:
    """Enqueue one."""
    decode.send(number, url)
