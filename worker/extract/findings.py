"""The collected secrets of a document, with limits on their number, each one's length, and their total size."""

from __future__ import annotations

from mission.errors import MissionFailed
from mission.model import Reason, Secret
from mission.seal.sealing import EMPTY_BYTES, secret_bytes

# A document of 10 MiB has room for two million secrets; nobody needs that many.
MAX_SECRETS = 10_000
# Bytes of one secret, as it is sealed. A private key or a chain of certificates has some thousands.
MAX_SECRET_BYTES = 64 * 1024
# The reasons to refuse a document with more marked secrets: its author marked them as secrets, so none may be left out.
REFUSALS = (Reason.TOO_MANY_SECRETS, Reason.RESULT_TOO_LARGE)


class Findings:
    """The secrets of one document. It rejects secrets beyond its limits, so that memory stays bounded.

    Args:
        max_bytes: the limit on their result's plaintext.
    """

    def __init__(self, max_bytes: int) -> None:
        self.secrets: list[Secret] = []
        self._left = max_bytes - EMPTY_BYTES

    def add(self, secret: Secret) -> None:
        """Add a secret.

        Raises:
            MissionFailed: `too_many_secrets` if there are already `MAX_SECRETS`; `result_too_large` if it has more than
                `MAX_SECRET_BYTES`, or all together exceed the total.
        """
        if len(self.secrets) == MAX_SECRETS:
            raise MissionFailed(Reason.TOO_MANY_SECRETS)
        # Each character has at least one byte, so the bytes of a secret that is far too long need no exact count.
        size = secret_bytes(secret) if len(secret.value) <= MAX_SECRET_BYTES else len(secret.value)
        if size > min(MAX_SECRET_BYTES, self._left):
            raise MissionFailed(Reason.RESULT_TOO_LARGE)
        self._left -= size
        self.secrets.append(secret)
