"""Celery's consumer, except that it sends events to Flower less often."""

from __future__ import annotations

from celery.worker.consumer import Consumer

EVENTS_SECONDS = 0.5


class PatientConsumer(Consumer):  # type: ignore[misc]  # celery has no types
    """Sends the events of its tasks in batches: twice a second, or as soon as there are two dozen.

    Celery sends at each turn of its loop, each time with a round trip to Redis: a tenth of a busy worker's CPU.
    """

    _due = False

    def on_send_event_buffered(self) -> None:
        """Schedule sending the buffered events."""
        if not self._due:
            self._due = True
            self.hub.call_later(EVENTS_SECONDS, self.send_events)

    def send_events(self) -> None:
        """Send the buffered events."""
        self._due = False
        if self.event_dispatcher:
            self.event_dispatcher.flush()
