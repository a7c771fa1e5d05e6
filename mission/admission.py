"""Admission: from a URL that somebody names to a mission in the ledger with a message to wake a worker, or a refusal.

Every way in goes through it: `MissionClient`, and `decoder.submit`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from mission.errors import (
    DecoderError,
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    QueueFull,
    QuotaExceeded,
    StoredQuotaExceeded,
)
from mission.ids import new_mission_id
from mission.model import Reason, Ticket
from mission.seal.url_keys import UrlKeyring
from mission.settings import Settings
from mission.store.ledger import Admission, Admitted, Ledger
from mission.url import parse_url

DEFAULT_SUBMITTER = "default"
# A submitter's name stands in logs and in the name of its recipient's key file.
_SUBMITTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_KEY_LENGTH = 256

Verdict = Ticket | DecoderError


class Admitter:
    """Checks, encrypts and admits. Refusals for syntax are counted in the ledger beside its own."""

    def __init__(self, ledger: Ledger, keyring: UrlKeyring, settings: Settings) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._settings = settings

    def admit(
        self,
        urls: Sequence[str],
        *,
        submitter: str = DEFAULT_SUBMITTER,
        idempotency_key: str | None = None,
        batch_key: str | None = None,
        expires_seconds: float | None = None,
        mission_id: str | None = None,
    ) -> list[Verdict]:
        """Admit URLs of one submitter in one call to the ledger, and publish them; a ticket or a refusal for each, in order.

        Args:
            urls: what was asked for, as it was written.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: the same key gives the same mission; for one URL only.
            batch_key: the same key gives each URL the same mission, for any number of them.
            expires_seconds: lifetime, at most `DECODER_MAX_AGE`, which is the default.
            mission_id: an id that the caller chose, which then is the idempotency key; for one URL only.

        Raises:
            InvalidMission: the options are bad.
            LedgerUnavailable: nothing is known to be accepted.
        """
        self._check_options(submitter, (idempotency_key, batch_key), expires_seconds)
        lifetime = min(expires_seconds or self._settings.max_age, self._settings.max_age)
        refusals: list[InvalidMission | None] = []
        admissions: list[Admission] = []
        for url in urls:
            try:
                href = parse_url(url).href
                ids = self._ids(href, submitter, idempotency_key, batch_key, mission_id)
                admissions.append(self._admission(href, ids, lifetime))
                refusals.append(None)
            except InvalidMission as refusal:
                refusals.append(refusal)
        if len(admissions) < len(refusals):
            self._count([refusal.reason for refusal in refusals if refusal])
        answers = self._ledger.admit(admissions, submitter) if admissions else []
        admitted = [self._verdict(*pair) for pair in zip(admissions, answers, strict=True)]
        rest = iter(admitted)
        return [refusal or next(rest) for refusal in refusals]

    def _ids(
        self, href: str, submitter: str, idempotency_key: str | None, batch_key: str | None, mission_id: str | None
    ) -> list[str]:
        """The ids that the mission may have been admitted under before; none if it has no key."""
        if mission_id is not None:
            return [mission_id]
        if idempotency_key is not None:
            return self._keyring.derive_ids(submitter, idempotency_key)
        if batch_key is not None:
            return self._keyring.derive_ids(submitter, batch_key, href)
        return []

    def _admission(self, href: str, ids: Sequence[str], lifetime: float) -> Admission:
        if not ids:
            own = new_mission_id()
            return Admission(own, self._keyring.encrypt(href, own), lifetime)
        # Each URL key stands for an id of its own, and a fingerprint belongs to its id; an id of the caller's is one for all.
        of_ids = [self._keyring.fingerprints(id_, href) for id_ in ids]
        prints = of_ids[0] if len(ids) == 1 else {key: of_ids[n][key] for n, key in enumerate(of_ids[0])}
        return Admission(ids[0], self._keyring.encrypt(href, ids[0]), lifetime, ids, prints)

    def _count(self, refused: Sequence[Reason]) -> None:
        # A URL is as bad while Redis is away: that it is not counted then must not hide the refusal.
        with suppress(LedgerUnavailable):
            for reason, count in Counter(refused).items():
                self._ledger.count_refusals(reason, count)

    def _verdict(self, admission: Admission, answer: Admitted) -> Verdict:
        if answer.refusal is None and answer.state is not None:
            # An id of our own that is known already: the connection broke before the answer, and the call was sent again.
            return Ticket(answer.id, answer.state, answer.duplicate and bool(admission.ids))
        match answer.refusal:
            case Reason.QUEUE_FULL:
                return QueueFull(self._settings.queue_limit)
            case Reason.QUOTA_EXCEEDED:
                return QuotaExceeded(answer.retry_after)
            case Reason.STORED_QUOTA_EXCEEDED:
                return StoredQuotaExceeded(answer.retry_after)
            case _:
                return IdempotencyConflict()

    def _check_options(self, submitter: object, keys: Sequence[object], expires: object) -> None:
        if not isinstance(submitter, str) or not _SUBMITTER.fullmatch(submitter):
            raise InvalidMission(Reason.MALFORMED_MESSAGE, "a submitter is 1 to 64 letters, digits, '_', '.' or '-'")
        for key in keys:
            if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_LENGTH):
                raise InvalidMission(
                    Reason.MALFORMED_MESSAGE, f"an idempotency key is 1 to {_MAX_KEY_LENGTH} characters"
                )
        if expires is None:
            return
        if isinstance(expires, bool) or not isinstance(expires, int | float) or not expires > 0:  # NaN is above nothing
            raise InvalidMission(Reason.MALFORMED_MESSAGE, "expires is a number of seconds above 0")
