"""The choice of credentials for a request, made only here and separately for each hop.

The most specific allowlist entry that opens a hop's URL decides. The worker sends only that entry's credentials, and only over
https; it uses http only for a loopback address, and then not through a proxy.
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
    """The credentials in the file, re-read every few seconds; if the file becomes invalid, the last valid ones stay in use.

    Raises:
        SettingsError: the file is invalid at the start; the message names the position, and nothing secret.
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
        """The allowlist entries with credentials."""
        return list(self._known)

    def of(self, url: MissionUrl) -> Credential | None:
        """The credential to send to a URL that the policy allows; None if there is none."""
        if self._file is None or not self._private(url):
            return None
        self._refresh()
        entry = self._policy.opened_by(url)
        return None if entry is None else self._known.get(entry)

    def _private(self, url: MissionUrl) -> bool:
        """Whether nobody can read the request on its way; a proxy could."""
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
        assert self._file is not None  # noqa: S101 (narrows the type: without a file nothing is read)
        try:
            found = self._load(self._file)
        except SettingsError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.error("%s; its last valid content stays in use", error)
            return
        self._problem = ""
        self._take(found)

    def _take(self, found: Mapping[AllowedHost, Credential]) -> None:
        """Use these from now on; an unchanged credential keeps its token."""
        before = self._known
        self._known = {entry: before[entry] if before.get(entry) == new else new for entry, new in found.items()}
        for entry in sorted(before.keys() | found.keys(), key=str):
            old, new = before.get(entry), self._known.get(entry)
            if old is not new:
                word = "gone" if new is None else "changed" if old else "set"
                fields = {"event.action": "credentials-changed", "decoder.allowed_by": str(entry)}
                log.info("credentials of %s: %s", entry, word, extra=fields)
