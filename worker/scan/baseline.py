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

# The name in SARIF's `partialFingerprints`: a new way to compute them needs a new name.
FINGERPRINT = "decoderSecret/v1"
MAX_BYTES = 256 * 1024**2


def fingerprint(location: str, secret: Secret) -> str:
    """Compute a secret's fingerprint, 32 hexadecimal digits; it stays the same if the secret moves to another line.

    The first 30 digits depend on the place (file, member, detector, category), not on the value. The last two are a byte of a hash
    that includes the value: a changed value is noticed 255 times in 256. An attacker who guesses a password learns only that one
    guess in 256 is left; a longer hash would prove a guess right.

    Args:
        location: the file, relative to the folder that was searched.
        secret: a secret in that file.
    """
    place = json.dumps([location, secret.path, secret.detector, secret.category]).encode()
    value = sha256(place + b"\0" + secret.value.encode(errors="surrogatepass"))
    return sha256(place).hexdigest()[:30] + value.hexdigest()[:2]


class Baseline:
    """The secrets of an earlier search, each as often as it was found.

    Args:
        fingerprints: the fingerprint of each.
    """

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._left = Counter(fingerprints)
        self.known = 0

    @classmethod
    def load(cls, file: Path) -> Baseline:
        """Load a file that `decoder scan` wrote with `--json` or `--sarif`.

        Raises:
            SettingsError: it is neither, or cannot be read.
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
        """Whether the baseline contains this fingerprint; each call uses up one occurrence."""
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
