"""Who results are sealed to: one recipient for all, or one for each submitter."""

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

_DEFAULT = ""  # no submitter is called so


class Recipients:
    """The public keys that this worker holds; read anew every few seconds, so that rotation needs no restart.

    A file that turns bad keeps its last good key in place. One that is bad from its first day seals nothing, and its submitter
    does not fall back to the default key: somebody else would read what was meant for it. One that is gone does.

    Raises:
        SettingsError: none is set, or one is bad at the start; the text names the variable.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        if not settings.recipient and not settings.recipients:
            raise SettingsError(
                "DECODER_RECIPIENT: not set; takes the public key that results are sealed to, inline or a file "
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
                f"DECODER_RECIPIENTS: got {str(self._folder)!r}, which holds no NAME.pub; takes a public key for each submitter "
                "(or set DECODER_RECIPIENT for all without one)"
            )
        self._take(keys, problems)
        self._refresh = Refresh(lambda: self._take(*self._read()))

    def of(self, submitter: str) -> Recipient:
        """The recipient of a submitter's results: its own, or else the default one.

        Raises:
            SettingsError: it has none of its own and there is no default, or its own has never been good.
        """
        self._refresh()
        recipient = self._keys.get(submitter if submitter in self._keys else _DEFAULT)
        if recipient is None:
            raise SettingsError("DECODER_RECIPIENTS: no good key for this submitter; takes one in NAME.pub")
        return recipient

    def in_use(self) -> dict[str, str]:
        """The id of each key, in hexadecimal, by where it is set; of one that has never been good, `none`."""
        self._refresh()
        return {_setting(name): _key_id(recipient) for name, recipient in self._keys.items()}

    def key_ids(self) -> list[str]:
        """The ids of all keys, in hexadecimal, the default one's first."""
        return [recipient.key_id.hex() for recipient in self._keys.values() if recipient]

    def _read(self) -> tuple[dict[str, Recipient | None], dict[str, str]]:
        """All keys, for a bad one the last good one; and what is wrong, by name."""
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
            return before  # to check a key anew costs an encryption
        try:
            return Recipient.from_line(line)
        except KeyFormatError as error:
            raise KeyFormatError(f"{path}: {error}") from None

    def _take(self, keys: dict[str, Recipient | None], problems: dict[str, str]) -> None:
        """Use these from now on, and tell what is new about them."""
        for name in sorted(keys.keys() | self._keys.keys()):
            before, now = (_key_id(found.get(name)) for found in (self._keys, keys))
            if before != now:
                fields = {"event.action": "recipient-changed", "decoder.key_id": now, "decoder.key_id_before": before}
                log.info("recipient of %s: key %s, before %s", name or "all others", now, before, extra=fields)
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                log.error("%s; its last good key stays, if it had one", problem)
        metrics.BAD_RECIPIENTS.set(len(problems))
        self._keys, self._problems = keys, problems


def _setting(name: str) -> str:
    return f"DECODER_RECIPIENTS, {name}.pub" if name else "DECODER_RECIPIENT"


def _key_id(recipient: Recipient | None) -> str:
    return recipient.key_id.hex() if recipient else "none"
