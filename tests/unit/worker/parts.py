"""A worker's parts within the test process: real ledger, real keys, and a replaceable pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from mission.admission import Admitter
from mission.model import Claim, Priority, Reason, State, Ticket
from mission.seal.sealing import Identity
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.store.ledger import Ledger
from mission.store.names import QUEUE_OF
from tests.claims import claim_these
from worker.observe import metrics
from worker.settings import WorkerSettings
from worker.work.coordinator import Coordinator
from worker.work.endings import Outcome
from worker.work.pipeline import Pipeline

URL = "https://docs.example/page?signature=sesame"
BEGUN: list[Coordinator] = []  # closed after the test


class Keys:
    """The keys of one test, and missions encrypted with them whose messages are gone."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self.ledger = ledger
        self.identity = Identity.generate()
        self.keyring = UrlKeyring.parse(generate_url_key())
        self.admitter = Admitter(ledger, self.keyring, settings)

    def admit(
        self,
        *urls: str,
        submitter: str = "app",
        expires_seconds: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> list[str]:
        """Admit missions that wait for their claim, and return their ids."""
        verdicts = self.admitter.admit(
            urls or [URL], submitter=submitter, expires_seconds=expires_seconds, priority=priority
        )
        assert all(isinstance(verdict, Ticket) for verdict in verdicts)
        self.ledger.client.delete(*QUEUE_OF.values())
        return [cast("Ticket", verdict).id for verdict in verdicts]

    def claim(self, *urls: str, submitter: str = "app", priority: Priority = Priority.NORMAL) -> Claim:
        """Claim a mission."""
        ids = self.admit(*urls, submitter=submitter, priority=priority)
        return claim_these(self.ledger, ids, 1, 60.0).claims[0]


def succeeded(_claim: Claim) -> Outcome:
    """The outcome of an attempt whose document holds no secrets."""
    return Outcome({}, record=b"sealed")


def timed_out(_claim: Claim) -> Outcome:
    """The outcome of an attempt to be repeated in a minute."""
    return Outcome({}, Reason.READ_TIMEOUT, retry_after=60)


class Scripted:
    """A stub of the pipeline, for tests of how its outcomes are handled."""

    def __init__(self, outcome: Callable[[Claim], Outcome] = succeeded) -> None:
        self._outcome = outcome
        self._lock = threading.Lock()
        self._busy = 0
        self.seen: list[Claim] = []
        self.most_side_by_side = 0

    def decode(self, claim: Claim) -> Outcome:
        with self._lock:
            self.seen.append(claim)
            self._busy += 1
            self.most_side_by_side = max(self.most_side_by_side, self._busy)
        try:
            return self._outcome(claim)
        finally:
            with self._lock:
                self._busy -= 1


def coordinator_of(ledger: Ledger, settings: WorkerSettings, scripted: Scripted, **changes: object) -> Coordinator:
    """Start a coordinator on the scripted pipeline, with some settings changed."""
    coordinator = Coordinator(ledger, cast("Pipeline", scripted), settings.model_copy(update=changes))
    coordinator.start()
    BEGUN.append(coordinator)
    return coordinator


def states(ledger: Ledger, ids: Sequence[str]) -> set[State | str]:
    """The states of missions."""
    return {ledger.status(mission_id).state for mission_id in ids}


def ended(outcome: State, reason: str = "") -> float:
    """The number of missions with this end, from the metric."""
    return float(metrics.MISSIONS.labels(outcome.value, reason)._value.get())


def deaths(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The dead missions in the log, each with its reason."""
    lines = [vars(record) for record in caplog.records if record.getMessage() == "mission dead"]
    return [(line["mission.id"], line["mission.reason"]) for line in lines]
