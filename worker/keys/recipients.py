"""The recipients of results: one for all submitters, or one for each."""

from __future__ import annotations

import logging
from pathlib import Path

from mission.errors import KeyFormatError, SettingsError
from mission.files import distrust
from mission.seal.key_files import Kind, expect_file
from mission.seal.sealing import Recipient, load_recipient
from worker.keys.refresh import Refresh
from worker.observe import metrics
from worker.settings import WorkerSettings

log = logging.getLogger("decoder.recipients")

_DEFAULT = ""  # no submitter has this name


class Recipients:
    """The public keys that this worker seals to; re-read every few seconds, so that rotation needs no restart.

    If a file becomes invalid, its last valid key stays in use. If a file was never valid, the worker seals nothing for its
    submitter and does not use the default key: another person could read the results. If a file is removed, it does.

    Raises:
        SettingsError: no key is set, or one is invalid at the start; the message names the variable.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        if not settings.recipient and not settings.recipients:
            raise SettingsError(
                "DECODER_RECIPIENT: not set; takes the public key to seal results to, inline or a file "
                "(`decoder keys generate --identity FILE --recipient FILE`)"
            )
        self._default = settings.recipient
        self._folder = settings.recipients
        self._keys: dict[str, Recipient | None] = {}
        self._problems: dict[str, str] = {}
        keys, problems = self._read()
        if problems:
            raise SettingsError(next(iter(problems.values())))
        if not keys:
            raise SettingsError(
                f"DECODER_RECIPIENTS: got {str(self._folder)!r}, which contains no NAME.pub; takes a public key for each submitter "
                "(or set DECODER_RECIPIENT for the others)"
            )
        self._take(keys, problems)
        self._refresh = Refresh(lambda: self._take(*self._read()))

    def of(self, submitter: str) -> Recipient:
        """The recipient of a submitter's results: its own, or else the default.

        Raises:
            SettingsError: it has no recipient and there is no default, or its own was never valid.
        """
        self._refresh()
        recipient = self._keys.get(submitter if submitter in self._keys else _DEFAULT)
        if recipient is None:
            raise SettingsError("DECODER_RECIPIENTS: no valid key for this submitter; takes one in NAME.pub")
        return recipient

    def in_use(self) -> dict[str, str]:
        """The hexadecimal id of each key, by its setting; `none` for a key that was never valid."""
        self._refresh()
        return {_setting(name): _key_id(recipient) for name, recipient in self._keys.items()}

    def key_ids(self) -> list[str]:
        """The hexadecimal ids of all keys, the default key first."""
        return [recipient.key_id.hex() for recipient in self._keys.values() if recipient]

    def _read(self) -> tuple[dict[str, Recipient | None], dict[str, str]]:
        """All keys, with the last valid one in place of an invalid one; and the problems, by name."""
        keys: dict[str, Recipient | None] = {}
        problems: dict[str, str] = {}
        if self._default:
            try:
                keys[_DEFAULT] = load_recipient(self._default)
            except KeyFormatError as error:
                keys[_DEFAULT], problems[_DEFAULT] = self._keys.get(_DEFAULT), str(error)
        if self._folder is None:
            return keys, problems
        missing = (
            None if self._folder.is_dir() else f"got {str(self._folder)!r}; takes a folder of public keys, NAME.pub"
        )
        if problem := missing or distrust(self._folder):
            problems[str(self._folder)] = f"DECODER_RECIPIENTS: {problem}"
            return self._keys | keys, problems
        for path in sorted(self._folder.glob("[!.]*.pub")):
            try:
                keys[path.stem] = self._from_file(path)
            except KeyFormatError as error:
                keys[path.stem], problems[path.stem] = self._keys.get(path.stem), f"DECODER_RECIPIENTS: {error}"
        return keys, problems

    def _from_file(self, path: Path) -> Recipient:
        line = expect_file(Kind.RECIPIENT, path)
        if (before := self._keys.get(path.stem)) and before.line == line:
            return before  # checking a key again costs an encryption
        try:
            return Recipient.from_line(line)
        except KeyFormatError as error:
            raise KeyFormatError(f"{path}: {error}") from None

    def _take(self, keys: dict[str, Recipient | None], problems: dict[str, str]) -> None:
        """Use these from now on, and log what changed."""
        for name in sorted(keys.keys() | self._keys.keys()):
            before, now = (_key_id(found.get(name)) for found in (self._keys, keys))
            if before != now:
                fields = {"event.action": "recipient-changed", "decoder.key_id": now, "decoder.key_id_before": before}
                log.info("recipient of %s: key %s, before %s", name or "all others", now, before, extra=fields)
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                log.error("%s; its last valid key stays in use, if it had one", problem)
        metrics.BAD_RECIPIENTS.set(len(problems))
        self._keys, self._problems = keys, problems


def _setting(name: str) -> str:
    return f"DECODER_RECIPIENTS, {name}.pub" if name else "DECODER_RECIPIENT"


def _key_id(recipient: Recipient | None) -> str:
    return recipient.key_id.hex() if recipient else "none"
