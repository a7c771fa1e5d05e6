"""Admission: from a URL that somebody names to a mission in the ledger with a message to wake a worker, or a refusal.

Every way in goes through it: `MissionClient`, and `decoder.submit`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
from mission.model import Priority, Reason, Ticket
from mission.seal.url_keys import UrlKeyring
from mission.settings import Settings
from mission.store.changes import Admission, Admitted, Known
from mission.store.ledger import Ledger
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
        exclusive: bool = False,
        expires_seconds: float | None = None,
        mission_id: str | None = None,
        batch_id: str = "",
        priority: str = Priority.NORMAL,
    ) -> list[Verdict]:
        """Admit URLs of one submitter in one call to the ledger, and publish them; a ticket or a refusal for each, in order.

        Args:
            urls: what was asked for, as it was written.
            submitter: who asks; quotas and recipients go by it.
            idempotency_key: the same key gives the same URL the same mission.
            exclusive: the key stands for one URL alone: with another one it is a conflict.
            expires_seconds: lifetime, at most `DECODER_MAX_AGE`, which is the default.
            mission_id: an id that the caller chose, which then is the idempotency key; for one URL only.
            batch_id: what they are enqueued together under. Then a key that stands for another URL alone is no conflict.
            priority: `high`, `normal` or `low`. A mission that is there already keeps its own.

        Raises:
            InvalidMission: the options are bad.
            LedgerUnavailable: nothing is known to be accepted.
        """
        check_options(submitter, idempotency_key, expires_seconds, priority, exclusive=exclusive)
        lifetime = min(expires_seconds or self._settings.max_age, self._settings.max_age)
        refusals: list[InvalidMission | None] = []
        admissions: list[Admission] = []
        of_key: Mapping[str, str] = {}
        if idempotency_key is not None:
            of_key = self._keyring.derive_ids(submitter, idempotency_key)
        for url in urls:
            try:
                href = parse_url(url).href
                if mission_id is not None:
                    known = self._known(href, dict.fromkeys(self._keyring.key_ids, mission_id), alone=True)
                elif idempotency_key is not None:
                    of_url = self._keyring.derive_ids(submitter, idempotency_key, href)
                    known = self._known(href, of_url, alone=True)
                    # What is admitted so stands for its URL alone, and so does what a single `enqueue` left there before 1.0.
                    by_key = self._known(href, of_key, alone=not batch_id)
                    known = by_key + known if exclusive else known + by_key
                else:
                    known = []
                own = known[0].id if known else new_mission_id()
                admissions.append(Admission(own, self._keyring.encrypt(href, own), lifetime, known))
                refusals.append(None)
            except InvalidMission as refusal:
                refusals.append(refusal)
        if len(admissions) < len(refusals):
            self._count([refusal.reason for refusal in refusals if refusal])
        answers = self._ledger.admit(admissions, submitter, batch_id, Priority(priority)) if admissions else []
        admitted = [self._verdict(*pair) for pair in zip(admissions, answers, strict=True)]
        rest = iter(admitted)
        return [refusal or next(rest) for refusal in refusals]

    def _known(self, href: str, ids: Mapping[str, str], *, alone: bool) -> list[Known]:
        """A mission by its id under each URL key, with what tells whether it is of this URL."""
        return [Known(id_, key, self._keyring.fingerprint(key, id_, href), alone) for key, id_ in ids.items()]

    def _count(self, refused: Sequence[Reason]) -> None:
        # A URL is as bad while Redis is away: that it is not counted then must not hide the refusal.
        with suppress(LedgerUnavailable):
            for reason, count in Counter(refused).items():
                self._ledger.count_refusals(reason, count)

    def _verdict(self, admission: Admission, answer: Admitted) -> Verdict:
        if answer.refusal is None and answer.state is not None:
            # An id of our own that is known already: the connection broke before the answer, and the call was sent again.
            return Ticket(answer.id, answer.state, answer.duplicate and bool(admission.known), answer.priority)
        match answer.refusal:
            case Reason.QUEUE_FULL:
                return QueueFull(self._settings.queue_limit)
            case Reason.QUOTA_EXCEEDED:
                return QuotaExceeded(answer.retry_after)
            case Reason.STORED_QUOTA_EXCEEDED:
                return StoredQuotaExceeded(answer.retry_after)
            case _:
                return IdempotencyConflict()


def check_options(
    submitter: object, key: object, expires: object, priority: object, *, exclusive: bool = False
) -> None:
    """Refuse what no option of an admission may be.

    Raises:
        InvalidMission: the text says what it takes.
    """
    if not isinstance(submitter, str) or not _SUBMITTER.fullmatch(submitter):
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "a submitter is 1 to 64 letters, digits, '_', '.' or '-'")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_LENGTH):
        raise InvalidMission(Reason.MALFORMED_MESSAGE, f"an idempotency key is 1 to {_MAX_KEY_LENGTH} characters")
    if exclusive and key is None:
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "exclusive needs an idempotency key")
    if not isinstance(priority, str) or priority not in list(Priority):
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "a priority is high, normal or low")
    if expires is None:
        return
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not expires > 0:  # NaN is above nothing
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "expires is a number of seconds above 0")
