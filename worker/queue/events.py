"""Celery's consumer, but for how often it tells Flower what it does."""

from __future__ import annotations

from celery.worker.consumer import Consumer

EVENTS_SECONDS = 0.5


class PatientConsumer(Consumer):  # type: ignore[misc]  # celery has no types
    """Sends the events of its tasks together twice a second, or two dozen at once.

    Celery does at each turn of its loop, each time with a round trip to Redis: a tenth of a busy worker's CPU.
    """

    _due = False

    def on_send_event_buffered(self) -> None:
        """An event waits: have it sent soon."""
        if not self._due:
            self._due = True
            self.hub.call_later(EVENTS_SECONDS, self.send_events)

    def send_events(self) -> None:
        """Send those that wait."""
        self._due = False
        if self.event_dispatcher:
            self.event_dispatcher.flush()
