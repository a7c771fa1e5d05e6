"""When the events of tasks are sent."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from worker.app import WORKER_CONFIG
from worker.queue.events import EVENTS_SECONDS, PatientConsumer


class Hub:
    """Celery's loop, of which only its timer is used."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((seconds, call))


def consumer(hub: Hub, sent: list[str]) -> Any:
    """One whose other parts are not needed here."""
    made: Any = PatientConsumer.__new__(PatientConsumer)
    made.hub, made._due = hub, False
    made.event_dispatcher = SimpleNamespace(flush=lambda: sent.append("flush"))
    return made


def test_events_are_sent_together_and_the_next_ones_again() -> None:
    hub, sent = Hub(), list[str]()
    patient = consumer(hub, sent)
    for _ in range(5):
        patient.on_send_event_buffered()
    assert [seconds for seconds, _ in hub.timers] == [EVENTS_SECONDS]
    assert sent == []
    hub.timers.pop()[1]()
    assert sent == ["flush"]
    patient.on_send_event_buffered()
    assert len(hub.timers) == 1


def test_workers_use_it() -> None:
    assert WORKER_CONFIG["worker_consumer"] == f"{PatientConsumer.__module__}:{PatientConsumer.__qualname__}"
