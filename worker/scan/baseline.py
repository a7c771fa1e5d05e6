"""Baselines: known secrets, recognised across searches by fingerprints that reveal no secret."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from mission.errors import SettingsError
from mission.model import Secret

# In SARIF's `partialFingerprints`: a new way to make them takes a new name.
FINGERPRINT = "decoderSecret/v1"
MAX_BYTES = 256 * 1024**2


def fingerprint(location: str, secret: Secret) -> str:
    """The same for a secret that moved to another line; 32 hexadecimal digits.

    The first 30 say where it is (file, member, detector, category), and nothing of its value. The last two are a byte of a hash that
    the value is in: a changed one is seen 255 times in 256, and an attacker who guesses a password learns only that one guess in
    256 is left. A longer hash would prove a guess right.

    Args:
        location: of the file, from the folder that was searched.
        secret: that was found in it.
    """
    place = json.dumps([location, secret.path, secret.detector, secret.category]).encode()
    value = sha256(place + b"\0" + secret.value.encode(errors="surrogatepass"))
    return sha256(place).hexdigest()[:30] + value.hexdigest()[:2]


class Baseline:
    """The secrets of an earlier search, each as often as it was found.

    Args:
        fingerprints: of all of them.
    """

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._left = Counter(fingerprints)
        self.known = 0

    @classmethod
    def load(cls, file: Path) -> Baseline:
        """Of what `decoder scan` wrote with `--json` or `--sarif`.

        Raises:
            SettingsError: it is none of them, or cannot be read.
        """
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror or 'cannot be read'}") from None
        try:
            if len(data) > MAX_BYTES:
                raise ValueError
            return cls(_fingerprints(data.decode()))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            what = "what `decoder scan` wrote with --json or --sarif"
            raise SettingsError(f"{file}: not a baseline; use {what}, up to {MAX_BYTES} bytes") from None

    def knows(self, fingerprint: str) -> bool:
        """Whether the baseline has it once more than the earlier calls asked for."""
        if not self._left[fingerprint]:
            return False
        self._left[fingerprint] -= 1
        self.known += 1
        return True


def _fingerprints(text: str) -> Iterator[str]:
    try:
        whole: Any = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "runs" in whole:
        for run in whole["runs"]:
            for result in run["results"]:
                yield _checked(result["partialFingerprints"][FINGERPRINT])
        return
    for line in text.splitlines():
        if line.strip():
            for secret in json.loads(line)["secrets"]:
                yield _checked(secret["fingerprint"])


def _checked(fingerprint: Any) -> str:
    if not isinstance(fingerprint, str):
        raise TypeError
    return fingerprint
