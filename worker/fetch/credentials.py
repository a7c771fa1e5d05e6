"""Which credentials a request carries: decided here alone, for each hop anew.

The most specific entry of the allowlist that opens a hop's URL decides: what it has in the file of credentials goes along, over
https (in clear to a loopback address alone, and not through a proxy), and nothing of any other entry does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from mission.errors import SettingsError
from mission.url import MissionUrl
from worker.allowlist import AllowedHost
from worker.fetch.credential_file import Credential, load
from worker.fetch.policy import UrlPolicy
from worker.keys.refresh import Refresh
from worker.settings import WorkerSettings

log = logging.getLogger("decoder.credentials")


class Credentials:
    """The credentials of the file, read anew every few seconds; a file that turns bad keeps the last good one in use.

    Raises:
        SettingsError: the file is bad at the start; the line says where, and nothing that is secret.
    """

    def __init__(self, settings: WorkerSettings, policy: UrlPolicy) -> None:
        self._file = settings.credentials
        self._policy = policy
        self._direct = settings.proxy is None
        self._known: dict[AllowedHost, Credential] = {}
        self._problem = ""
        self._refresh = Refresh(self._read_again)
        if self._file is not None:
            self._take(self._load(self._file))

    @property
    def entries(self) -> list[AllowedHost]:
        """The entries that have some."""
        return list(self._known)

    def of(self, url: MissionUrl) -> Credential | None:
        """What goes along to a URL that the policy lets through; None where nothing does."""
        if self._file is None or not self._private(url):
            return None
        self._refresh()
        entry = self._policy.opened_by(url)
        return None if entry is None else self._known.get(entry)

    def _private(self, url: MissionUrl) -> bool:
        """Whether nobody reads along on the way there; a proxy would."""
        return url.scheme == "https" or (self._direct and url.address is not None and url.address.is_loopback)

    def _load(self, file: Path) -> dict[AllowedHost, Credential]:
        found = load(file, self._policy)
        for entry, credential in found.items():
            if credential.grant and not self._private(credential.grant.token_url):
                raise SettingsError(f'DECODER_CREDENTIALS: {file}: "{entry}": token-url takes https://')
        return found

    def bad(self) -> bool:
        """Whether the file cannot be used now."""
        if self._file is not None:
            self._refresh()
        return bool(self._problem)

    def _read_again(self) -> None:
        assert self._file is not None  # noqa: S101 (narrows the type: without a file nobody reads)
        try:
            found = self._load(self._file)
        except SettingsError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.error("%s; what it said before stays in use", error)
            return
        self._problem = ""
        self._take(found)

    def _take(self, found: Mapping[AllowedHost, Credential]) -> None:
        """Use these from now on; one that says the same keeps its token."""
        before = self._known
        self._known = {entry: before[entry] if before.get(entry) == new else new for entry, new in found.items()}
        for entry in sorted(before.keys() | found.keys(), key=str):
            old, new = before.get(entry), self._known.get(entry)
            if old is not new:
                word = "gone" if new is None else "changed" if old else "set"
                fields = {"event.action": "credentials-changed", "decoder.allowed_by": str(entry)}
                log.info("credentials of %s: %s", entry, word, extra=fields)
