"""A worker's parts put together within the test process: real ledger, real keys, and whatever decodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

from mission.admission import Admitter
from mission.model import Claim, State, Ticket
from mission.seal.sealing import Identity
from mission.seal.url_keys import UrlKeyring, generate_url_key
from mission.store.ledger import Commit, Ledger
from worker.settings import WorkerSettings
from worker.work.batch import Batch
from worker.work.pipeline import Pipeline, Verdict

URL = "https://docs.example/page?signature=sesame"


class Keys:
    """Keys of one test, and missions under them."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self.ledger = ledger
        self.identity = Identity.generate()
        self.keyring = UrlKeyring.parse(generate_url_key())
        self.admitter = Admitter(ledger, self.keyring, settings)

    def admit(self, *urls: str, submitter: str = "app", expires_seconds: float | None = None) -> list[str]:
        """Missions that wait for their claim; their ids."""
        verdicts = self.admitter.admit(urls or [URL], submitter=submitter, expires_seconds=expires_seconds)
        assert all(isinstance(verdict, Ticket) for verdict in verdicts)
        return [cast("Ticket", verdict).id for verdict in verdicts]

    def claim(self, *urls: str, submitter: str = "app") -> Claim:
        """A mission in hand."""
        return self.ledger.claim(self.admit(*urls, submitter=submitter), 1, 60.0).claims[0]


def succeeded(claim: Claim) -> Verdict:
    """The verdict on a document without secrets."""
    return Commit(claim.id, claim.token, State.SUCCEEDED, None, 0, b"sealed")


class Scripted:
    """What stands in for the pipeline where only the handling of its verdicts is looked at."""

    def __init__(self, verdict: Callable[[Claim], Verdict] = succeeded) -> None:
        self._verdict = verdict
        self._lock = threading.Lock()
        self._busy = 0
        self.seen: list[Claim] = []
        self.most_side_by_side = 0

    def decode(self, claim: Claim) -> Verdict:
        with self._lock:
            self.seen.append(claim)
            self._busy += 1
            self.most_side_by_side = max(self.most_side_by_side, self._busy)
        try:
            return self._verdict(claim)
        finally:
            with self._lock:
                self._busy -= 1


def batch_of(ledger: Ledger, settings: WorkerSettings, scripted: Scripted, **changes: object) -> Batch:
    """A batch over the script, with some settings changed."""
    return Batch(ledger, cast("Pipeline", scripted), settings.model_copy(update=changes))


def states(ledger: Ledger, ids: Sequence[str]) -> set[State]:
    """The states that missions are in."""
    return {ledger.status(mission_id).state for mission_id in ids}
