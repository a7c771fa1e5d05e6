"""The pipeline for one claimed mission: validate → fetch → extract → seal, and its outcome."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from mission.errors import DecoderError, MissionFailed
from mission.model import Claim, Extraction, Priority, Reason
from mission.seal.sealing import seal_secrets
from mission.seal.url_keys import UrlKeyring
from mission.url import MissionUrl, parse_url
from worker.extract import Extractor
from worker.extract.apart import extract_apart
from worker.fetch.fetcher import Document, Fetcher
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.observe import metrics
from worker.observe.logs import add_to_mission_context
from worker.settings import WorkerSettings
from worker.work.endings import Outcome
from worker.work.hosts import Hosts, PutOff, name_of
from worker.work.memory import Memory, Share, of_document
from worker.work.retry import within_attempt

log = logging.getLogger("decoder.mission")

# Looking up a label costs as much as counting.
_tried = cache(metrics.FETCH_ATTEMPTS.labels)


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
        memory: Memory,
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._recipients = recipients
        self._policy = policy
        self._fetcher = fetcher
        self._hosts = hosts
        self._memory = memory
        self._extractor = Extractor(settings.looks_for, settings.max_record)
        for scanner in self._extractor.scanners:
            metrics.RULES_CACHED.labels(scanner.detector).set(scanner.cached)
        metrics.start_entries(policy.entries)

    def decode(self, claim: Claim) -> Outcome:
        """Process a mission and return its outcome. Raises nothing."""
        phases: dict[str, float] = {}
        entry = ""
        deadline = time.monotonic() + min((claim.expires_at_ms - claim.now_ms) / 1000, self._settings.deadline)
        try:
            with _phase(phases, "validate"):
                url = parse_url(self._keyring.decrypt(claim.url_record, claim.id))
                entry = self._policy.allowed_by(url) or ""
                # The host itself is not logged: a name below a wildcard is untrusted text.
                if entry:
                    add_to_mission_context("mission.allowed_by", entry)
                self._policy.check(url)
            with self._memory.share(claim.submitter) as share:
                outcome = self._decode(claim, url, deadline, share, phases)
        except MissionFailed as failure:
            outcome = Outcome(phases, failure.reason, failure.retry_after)
        except DecoderError as error:
            # Not the mission's fault: for example, this worker lacks a key that another one may have.
            log.error("cannot process the mission here: %s", error)
            outcome = Outcome(phases, Reason.INTERNAL_ERROR)
        except Exception as error:
            log.exception("mission met an unexpected %s", type(error).__name__)
            outcome = Outcome(phases, Reason.INTERNAL_ERROR)
        return replace(outcome, allowed_by=entry)

    def _decode(
        self, claim: Claim, url: MissionUrl, deadline: float, share: Share, phases: dict[str, float]
    ) -> Outcome:
        try:
            with _phase(phases, "fetch"):
                document = self._fetch(claim, url, deadline, share)
            with _phase(phases, "extract"):
                secrets = self._extract(document, claim, deadline)
                share.for_secrets(len(secrets), deadline)
            if not secrets:  # no result to store: the ledger records that there are none
                return Outcome(phases, cut=secrets.cut)
            with _phase(phases, "seal"):
                recipient = self._recipients.of(claim.submitter)
                record = seal_secrets(recipient, secrets, mission_id=claim.id, token=claim.token)
            found = Counter(secret.detector for secret in secrets)
            return Outcome(phases, found=found, cut=secrets.cut, record=record)
        except PutOff as put_off:
            return Outcome(phases, put_off.reason, put_off.retry_after, put_off.host)
        except MissionFailed as failure:
            return Outcome(phases, failure.reason, failure.retry_after, name_of(url))

    def _fetch(self, claim: Claim, url: MissionUrl, deadline: float, share: Share) -> Document:
        tries, tried = self._settings.fetch_attempts, lambda result: _tried(result).inc()
        document = self._fetcher.fetch(
            url,
            deadline=deadline,
            visiting=lambda at: self._hosts.slot(at, claim.submitter, urgent=claim.priority == Priority.HIGH),
            again=lambda try_: within_attempt(try_, tries, deadline, tried),
            room=share.for_document,
        )
        metrics.FETCHED_BYTES.inc(document.wire_bytes)
        return document

    def _extract(self, document: Document, claim: Claim, deadline: float) -> Extraction:
        body, content_type = document.body, document.content_type
        if claim.suspect:
            # The worker itself holds the body, which is part of the share.
            memory = of_document(len(body)) - len(body)
            return extract_apart(self._extractor, body, content_type, deadline=deadline, memory=memory)
        return self._extractor.extract(body, content_type, deadline)


@contextmanager
def _phase(phases: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        phases[name] = time.monotonic() - started
