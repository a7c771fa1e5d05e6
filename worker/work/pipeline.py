"""What is done with one claimed mission, top to bottom: validate → fetch → extract → seal, and the verdict for the ledger."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from mission.errors import DecoderError, MissionFailed
from mission.model import Claim, Reason, Secret, State
from mission.seal.sealing import seal_secrets
from mission.seal.url_keys import UrlKeyring
from mission.store.ledger import Commit, Release
from mission.url import MissionUrl, parse_url
from worker.extract import Extractor
from worker.extract.charset import decode_body
from worker.fetch.fetcher import Document, Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.observe import metrics
from worker.observe.logs import add_to_mission_context, mission_context
from worker.settings import WorkerSettings
from worker.work.hosts import Hosts

log = logging.getLogger("decoder.mission")

# Full jitter (Brooker, "Exponential Backoff And Jitter", 2015) between attempts, in seconds.
RETRY_BASE_SECONDS = 2.0
RETRY_CAP_SECONDS = 300.0

Verdict = Commit | Release

# To look a label up costs as much as to count.
_observed = cache(metrics.PHASE_DURATION.labels)


class Pipeline:
    """Decodes one mission at a time; safe to use from many threads."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        keyring: UrlKeyring,
        recipients: Recipients,
        policy: UrlPolicy,
        fetcher: Fetcher,
        hosts: Hosts,
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._recipients = recipients
        self._policy = policy
        self._fetcher = fetcher
        self._hosts = hosts
        self._extractor = Extractor(settings.marker_pair)

    def decode(self, claim: Claim) -> Verdict:
        """Do a mission and say how it ended: a commit, or a release to try it again. Raises nothing."""
        phases: dict[str, float] = {}
        started = time.monotonic()
        with mission_context(claim.id, claim.attempt, claim.submitter), metrics.MISSIONS_IN_PROGRESS.track_inprogress():
            try:
                with _phase(phases, "validate"):
                    url = self._validate(claim)
                with self._hosts.slot(url), _phase(phases, "fetch"):
                    document = self._fetch(url, claim, started)
                with _phase(phases, "extract"):
                    secrets = self._extract(document)
                with _phase(phases, "seal"):
                    record = seal_secrets(
                        self._recipients.of(claim.submitter), secrets, mission_id=claim.id, token=claim.token
                    )
                verdict: Verdict = Commit(claim.id, claim.token, State.SUCCEEDED, None, len(secrets), record)
                _count_secrets(secrets)
            except MissionFailed as failure:
                verdict = self._failed(claim, failure)
            except DecoderError as error:
                # Not the mission's fault: a key that this worker lacks, say. Another one may have it.
                log.error("mission cannot be worked here: %s", error)
                verdict = self._failed(claim, MissionFailed(Reason.INTERNAL_ERROR))
            except Exception as error:
                log.exception("mission met an unexpected %s", type(error).__name__)
                verdict = self._failed(claim, MissionFailed(Reason.INTERNAL_ERROR))
            _report(claim, verdict, time.monotonic() - started, phases)
        return verdict

    def _validate(self, claim: Claim) -> MissionUrl:
        url = parse_url(self._keyring.decrypt(claim.url_record, claim.id))
        # The host itself is not logged: a name below a wildcard is a stranger's choice.
        if (entry := self._policy.allowed_by(url)) is not None:
            add_to_mission_context("mission.allowed_by", entry)
        self._policy.check(url)
        return url

    def _fetch(self, url: MissionUrl, claim: Claim, started: float) -> Document:
        alive = (claim.expires_at_ms - claim.now_ms) / 1000 - (time.monotonic() - started)
        document = self._fetcher.fetch(url, seconds=max(0.0, min(self._settings.deadline, alive)))
        metrics.FETCHED_BYTES.inc(document.wire_bytes)
        return document

    def _extract(self, document: Document) -> list[Secret]:
        return self._extractor.extract(decode_body(document.body, document.content_type))

    def _failed(self, claim: Claim, failure: MissionFailed) -> Verdict:
        if failure.reason.policy_refusal:
            metrics.SECURITY_EVENTS.labels(failure.reason.value).inc()
        if not failure.reason.transient:
            return Commit(claim.id, claim.token, State.FAILED, failure.reason)
        if failure.reason.unpenalised:
            return Release(claim.id, claim.token, failure.reason, failure.retry_after or 0.0, uses_attempt=False)
        backoff = random.uniform(0, min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2 ** (claim.attempt - 1)))  # noqa: S311 (jitter, not a secret)
        return Release(claim.id, claim.token, failure.reason, max(backoff, failure.retry_after or 0.0))


@contextmanager
def _phase(phases: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        phases[name] = time.monotonic() - started
        _observed(name).observe(phases[name])


def _count_secrets(secrets: list[Secret]) -> None:
    if not secrets:
        metrics.EMPTY_MISSIONS.inc()
    for detector, count in Counter(secret.detector for secret in secrets).items():
        metrics.SECRETS_EXTRACTED.labels(detector).inc(count)


def _report(claim: Claim, verdict: Verdict, seconds: float, phases: dict[str, float]) -> None:
    """One line that tells the attempt's whole story."""
    outcome = verdict.state.value if isinstance(verdict, Commit) else "released"
    story = {
        "event.action": "mission-attempt",
        "event.outcome": "success" if outcome == State.SUCCEEDED else "failure",
        "event.duration": round(seconds * 1e9),
        "mission.outcome": outcome,
        "mission.age_seconds": round((claim.now_ms - claim.submitted_at_ms) / 1000 + seconds, 3),
        **{f"mission.phase.{name}_seconds": round(spent, 6) for name, spent in phases.items()},
    }
    if verdict.reason is not None:
        story["mission.reason"] = verdict.reason.value
    if isinstance(verdict, Commit) and verdict.secrets is not None:
        story["mission.secrets"] = verdict.secrets
    if isinstance(verdict, Release):
        story["mission.retry_in_seconds"] = round(verdict.delay_seconds, 3)
    # To find the host busy or paused is no attempt: it is given back, and at its worst there are very many.
    level = logging.DEBUG if verdict.reason is Reason.HOST_PAUSED else logging.INFO
    log.log(level, "mission %s", outcome, extra=story)
