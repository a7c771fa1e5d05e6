"""Reading results: the audit log records the start of a read, then the record is opened, then the end is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Self, cast

import redis

from mission.audit.log import AuditLog
from mission.audit.recorded import recorded
from mission.errors import ResultUnavailable, SealError, SettingsError, UnknownMission
from mission.ids import check_mission_id
from mission.model import Extraction, State
from mission.operate.sealed_results import SealedResult, find_results
from mission.seal.sealing import Identity, RecordHeader, load_identity, open_secrets
from mission.settings import Settings
from mission.store.connection import connect, outages
from mission.store.entries import UNREADABLE, number, read_entries, word, words
from mission.store.names import result_key


class ResultReader:
    """Opens results with the reader's identities; the audit log records each read.

    Args:
        client: a login that may read the ledger and the results, and append to the audit.
        identities: the reader's private keys; several during a key change.
        audit: records each read.
    """

    def __init__(self, client: redis.Redis, identities: Sequence[Identity], audit: AuditLog) -> None:
        self._client = client
        self._identities = {identity.key_id: identity for identity in identities}
        self._audit = audit

    @classmethod
    def from_env(cls, identity_files: Sequence[Path] = ()) -> Self:
        """Create a reader from the environment's settings.

        Args:
            identity_files: used instead of `DECODER_IDENTITY_FILE`, if given.

        Raises:
            SettingsError: a setting is bad, or there is no identity.
            KeyFormatError: an identity's file is bad, or other users can access it.
        """
        return cls.from_settings(Settings.from_env(), identity_files)

    @classmethod
    def from_settings(cls, settings: Settings, identity_files: Sequence[Path] = ()) -> Self:
        """Create a reader from these settings, for an app with a second login.

        Args and raises: as `from_env`.
        """
        paths = identity_files or ([settings.identity_file] if settings.identity_file else [])
        if not paths:
            raise SettingsError(
                "DECODER_IDENTITY_FILE: got nothing; takes the file of the reader's identity (or use --identity FILE)"
            )
        identities = [load_identity(path) for path in paths]
        client = connect(settings)
        return cls(client, identities, AuditLog(client))

    def results(self, since: datetime, until: datetime) -> list[SealedResult]:
        """The results of missions that ended from `since` to before `until`, the earliest first. This opens none of them. A mission that
        found nothing has no result.

        Times are by the server's clock; those without a zone are local. It scans the names of all keys and reads the entry of each
        result. Measured on two cores, a million entries with 100,000 results took 4 s, and 420 bytes for each result found.

        Raises:
            LedgerUnavailable: Redis does not answer.
        """
        return find_results(self._client, since, until)

    def reveal(self, mission_id: str, *, reason: str) -> Extraction:
        """The list of secrets of a mission that succeeded; empty if it found none, since then nothing was sealed. Its `complete` says
        whether the whole document was searched.

        Args:
            mission_id: canonical UUID text.
            reason: the reason for the read, 1 to 500 characters; recorded in the audit log.

        Raises:
            InvalidMission: the id or the reason is not valid.
            AuditError: the read could not be recorded, so it was refused.
            UnknownMission: the ledger holds no such mission.
            ResultUnavailable: it has not finished, did not succeed, or its result has expired.
            SealError: the record does not open; that is recorded too.
            LedgerUnavailable: Redis does not answer.
        """
        check_mission_id(mission_id)
        held = ",".join(key_id.hex() for key_id in self._identities)
        with recorded(self._audit, "reveal", why=reason, mission_id=mission_id, key_id=held) as record:
            token, sealed, cut = self._fetch(mission_id)
            if sealed is None:
                record.outcome = "no secrets"
                return Extraction(cut=cut)
            identity = self._identities.get(sealed_to := RecordHeader.parse(sealed).key_id)
            if identity is None:
                raise SealError(
                    f"the record is sealed to key {sealed_to.hex()}, but its identity is missing: add its file with --identity, which is repeatable (`decoder keys show` prints ids)"
                )
            secrets = open_secrets(identity, sealed, mission_id=mission_id, token=token)
            record.key_id, record.outcome = identity.key_id.hex(), "opened"
        return Extraction(secrets, cut)

    def _fetch(self, mission_id: str) -> tuple[int, bytes | None, Sequence[str]]:
        """The mission's token, its sealed record (None if it found nothing, so that nothing was sealed), and what cut its search short."""
        fields = ("state", "token", "reason", "finished_at", "secrets", "cut")
        (entry,) = read_entries(self._client, [mission_id], fields)
        state, token = word(entry.get("state")), number(entry.get("token"))
        if not state:
            raise UnknownMission(mission_id)
        if state not in (State.SUCCEEDED, UNREADABLE):
            ended = f" ({word(entry.get('reason'))})" if "finished_at" in entry else ""
            raise ResultUnavailable(
                f"mission {mission_id} has no result{'' if ended else ' yet'}: it is {state}{ended}"
            )
        if state == UNREADABLE or token is None:
            raise ResultUnavailable(f"the ledger entry of mission {mission_id} cannot be read")
        with outages():
            record = cast("bytes | None", self._client.get(result_key(mission_id, token)))
        if record is None and number(entry.get("secrets")) != 0:
            raise ResultUnavailable(
                f"the result of mission {mission_id} is gone: expired (DECODER_RESULT_TTL) or deleted"
            )
        return token, record, words(entry.get("cut"))
