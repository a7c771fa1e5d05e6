"""When task events are sent. The parts are Celery's own, so a release that changes their use fails here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from celery import Celery
from celery.worker.consumer.events import Events

from worker.app import WORKER_CONFIG
from worker.queue.events import EVENTS_SECONDS, PatientConsumer


class Hub:
    """Celery's event loop; only its timer is used."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((seconds, call))


def test_events_are_sent_together_and_the_next_ones_again() -> None:
    app = Celery("test", broker="memory://", set_as_current=False, fixups=[])
    hub, sent = Hub(), list[list[object]]()
    worker = SimpleNamespace(use_eventloop=True)
    patient = PatientConsumer(None, app=app, controller=worker, hub=hub, worker_options={"without_gossip": True})
    Events(patient).start(patient)
    patient.event_dispatcher.publisher = SimpleNamespace(publish=lambda events, **_: sent.append(events))
    for number in range(5):
        patient.event_dispatcher.send("task-received", uuid=str(number))
    assert [seconds for seconds, _ in hub.timers] == [EVENTS_SECONDS]
    assert sent == []
    hub.timers.pop()[1]()
    assert [len(events) for events in sent] == [5]
    patient.event_dispatcher.send("task-received", uuid="6")
    assert len(hub.timers) == 1


def test_workers_use_it() -> None:
    assert WORKER_CONFIG["worker_consumer"] == f"{PatientConsumer.__module__}:{PatientConsumer.__qualname__}"
