"""Admission: turns a URL into a mission in the ledger and a message that wakes a worker, or into a refusal.

Both ways to enqueue use it: `MissionClient` and `decoder.submit`.
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
# A submitter's name appears in logs and in the name of its recipient's key file.
_SUBMITTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_KEY_LENGTH = 256

Verdict = Ticket | DecoderError


class Admitter:
    """Checks, encrypts and admits. The ledger counts refusals for syntax along with its own."""

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
        """Admit URLs of one submitter in one call to the ledger. Return a ticket or a refusal for each, in order.

        Args:
            urls: the URLs to fetch, as the submitter wrote them.
            submitter: the name that quotas and recipients depend on.
            idempotency_key: the same key and URL give the same mission.
            exclusive: the key stands only for one URL; another URL with it is a conflict.
            expires_seconds: lifetime; `DECODER_MAX_AGE` is the maximum and the default.
            mission_id: an id chosen by the caller, used as the idempotency key; for one URL only.
            batch_id: the id of their batch. In a batch, a key that stands only for another URL is not a conflict.
            priority: `high`, `normal` or `low`. An existing mission keeps its own.

        Raises:
            InvalidMission: an option is invalid.
            LedgerUnavailable: no mission is known to be accepted.
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
                    # A mission admitted by its key stands only for its URL, and so does one of a single `enqueue` before 1.0.
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
        """The mission ids under each URL key, with the fingerprint that shows whether the mission has this URL."""
        return [Known(id_, key, self._keyring.fingerprint(key, id_, href), alone) for key, id_ in ids.items()]

    def _count(self, refused: Sequence[Reason]) -> None:
        # An outage of Redis must not hide the refusal: the URL is invalid all the same.
        with suppress(LedgerUnavailable):
            for reason, count in Counter(refused).items():
                self._ledger.count_refusals(reason, count)

    def _verdict(self, admission: Admission, answer: Admitted) -> Verdict:
        if answer.refusal is None and answer.state is not None:
            # A new id that the ledger knows already: the connection broke before the answer, and the call was repeated.
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
    """Refuse invalid options of an admission.

    Raises:
        InvalidMission: the text says what the option takes.
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
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not expires > 0:  # NaN is not above 0
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "expires is a number of seconds above 0")
