"""What a document may give: so many secrets, each so long, and so many bytes in all. Whatever finds secrets puts them here."""

from __future__ import annotations

from mission.errors import MissionFailed
from mission.model import Reason, Secret
from mission.seal.sealing import EMPTY_BYTES, secret_bytes

# A document of 10 MiB has room for two million secrets; no one wants them.
MAX_SECRETS = 10_000
# Of one secret, as it is sealed. A private key or a chain of certificates has some thousands.
MAX_SECRET_BYTES = 64 * 1024
# Why a document is refused whose markers hold more: they say themselves that they hold secrets, so none may be left out.
REFUSALS = (Reason.TOO_MANY_SECRETS, Reason.RESULT_TOO_LARGE)


class Findings:
    """The secrets of one document. What does not fit is not taken, so that memory stays bounded.

    Args:
        max_bytes: of their result's plaintext.
    """

    def __init__(self, max_bytes: int) -> None:
        self.secrets: list[Secret] = []
        self._left = max_bytes - EMPTY_BYTES

    def add(self, secret: Secret) -> None:
        """One more.

        Raises:
            MissionFailed: `too_many_secrets`, there are `MAX_SECRETS` already; `result_too_large`, it takes more than
                `MAX_SECRET_BYTES`, or all of them more than they may.
        """
        if len(self.secrets) == MAX_SECRETS:
            raise MissionFailed(Reason.TOO_MANY_SECRETS)
        # Each character takes a byte or more: what is far too long is not even counted.
        size = secret_bytes(secret) if len(secret.value) <= MAX_SECRET_BYTES else len(secret.value)
        if size > min(MAX_SECRET_BYTES, self._left):
            raise MissionFailed(Reason.RESULT_TOO_LARGE)
        self._left -= size
        self.secrets.append(secret)
