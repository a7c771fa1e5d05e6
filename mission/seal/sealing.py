"""Sealed records: HPKE (RFC 9180, base mode) to a public key, bound to one mission and one claim.

A record is `header ‖ enc ‖ ciphertext`. The header is 27 bytes, big endian: `DCDR`, u8 version, u16 KEM, u16 KDF,
u16 AEAD (the ids of RFC 9180 and of X-Wing, draft-connolly-cfrg-xwing-kem), the first 8 bytes of the SHA-256 of
the public key, u64 token. HPKE's `info` is the header and the mission's id, so that neither can be replaced.
"""

from __future__ import annotations

import hashlib
import json
import secrets as randomness
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, NoReturn, Self

from cryptography.exceptions import InvalidTag

from mission.errors import KeyFormatError, SealError
from mission.model import Secret
from mission.seal.key_files import KeyLine, Kind, expect_file, load_key
from mission.seal.suites import HYBRID, SEED_BYTES, SUITES, SealSuite

MAGIC = b"DCDR"
RECORD_VERSION = 1
PLAINTEXT_VERSION = 1
KEY_ID_BYTES = 8

_HEADER = struct.Struct(f">4sBHHH{KEY_ID_BYTES}sQ")


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The unencrypted header of a sealed record."""

    suite_ids: tuple[int, int, int]
    key_id: bytes
    token: int

    def pack(self) -> bytes:
        """The header's bytes."""
        return _HEADER.pack(MAGIC, RECORD_VERSION, *self.suite_ids, self.key_id, self.token)

    @classmethod
    def parse(cls, record: bytes) -> Self:
        """Read the header of a record.

        Raises:
            SealError: it is not a sealed record, or this release does not read its version.
        """
        if len(record) < _HEADER.size or not record.startswith(MAGIC):
            raise SealError("this is not a sealed record")
        _, version, kem, kdf, aead, key_id, token = _HEADER.unpack_from(record)
        if version != RECORD_VERSION:
            raise SealError(f"the record has format version {version}; this release reads {RECORD_VERSION}")
        return cls((kem, kdf, aead), key_id, token)


class _Key:
    """The common part of a key pair's two halves. The repr shows only the suite and the key's id."""

    __slots__ = ("_material", "key_id", "suite")

    KIND: ClassVar[Kind]
    key_id: bytes

    def __init__(self, suite: SealSuite, material: bytes) -> None:
        size = suite.public_bytes if self.KIND is Kind.RECIPIENT else SEED_BYTES
        if len(material) != size:
            raise KeyFormatError(f"{self.KIND.noun} of {suite.name} has {size} bytes, this one {len(material)}")
        self.suite = suite
        self._material = material

    @classmethod
    def from_line(cls, line: KeyLine) -> Self:
        """The key in a line of this class's kind.

        Raises:
            KeyFormatError: its suite is unknown, or its material does not fit.
        """
        if line.label not in SUITES:
            raise KeyFormatError(f"{cls.KIND.noun} of an unknown suite: expected {' or '.join(SUITES)}")
        return cls(SUITES[line.label], line.material)

    @property
    def line(self) -> KeyLine:
        """The key line; an identity's is private."""
        return KeyLine(self.KIND, self.suite.name, self._material)

    @property
    def text(self) -> str:
        """The key line's text."""
        return self.line.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.suite.name}, key_id={self.key_id.hex()})"


class Recipient(_Key):
    """A public key that results are sealed to."""

    __slots__ = ("_key",)

    KIND = Kind.RECIPIENT

    def __init__(self, suite: SealSuite, raw: bytes) -> None:
        super().__init__(suite, raw)
        self.key_id = hashlib.sha256(raw).digest()[:KEY_ID_BYTES]
        try:
            self._key = suite.load_public(raw)
            suite.hpke.encrypt(b"", self._key)  # a point of low order is detected only in use
        except ValueError:
            raise KeyFormatError(f"{self.KIND.noun} of {suite.name} is damaged: not a valid key") from None

    def seal(self, plaintext: bytes, *, mission_id: str, token: int) -> bytes:
        """A record that only this recipient's identity opens, and only for this mission and claim.

        Args:
            plaintext: what to seal.
            mission_id: canonical UUID text.
            token: the fencing token of the claim, 0 to 2⁶⁴-1.
        """
        header = RecordHeader(self.suite.ids, self.key_id, token).pack()
        return header + self.suite.hpke.encrypt(plaintext, self._key, header + mission_id.encode())


class Identity(_Key):
    """A private key that opens the records sealed to its recipient, and has the same id. Never shown, never pickled."""

    __slots__ = ("_key", "recipient")

    KIND = Kind.IDENTITY

    def __init__(self, suite: SealSuite, seed: bytes) -> None:
        super().__init__(suite, seed)
        self._key, public = suite.load_private(seed)
        self.recipient = Recipient(suite, public)
        self.key_id = self.recipient.key_id

    @classmethod
    def generate(cls, suite: SealSuite = HYBRID) -> Self:
        """A new identity."""
        return cls(suite, randomness.token_bytes(SEED_BYTES))

    def open(self, record: bytes, *, mission_id: str, token: int) -> bytes:
        """The plaintext of a record.

        Raises:
            SealError: it was changed or truncated, belongs to another mission or claim, or is sealed to another key.
        """
        header = RecordHeader.parse(record)
        if header.key_id != self.key_id or header.suite_ids != self.suite.ids:
            raise SealError(
                f"the record is sealed to key {header.key_id.hex()}, but this identity has key {self.key_id.hex()}"
            )
        if header.token != token:
            raise SealError("the record does not belong to the committed claim")
        packed, sealed = record[: _HEADER.size], record[_HEADER.size :]
        opened = partial(self.suite.hpke.decrypt, sealed, self._key, packed + mission_id.encode())
        try:
            return opened()
        except (InvalidTag, ValueError):
            with suppress(InvalidTag, ValueError):
                opened()
                # cryptography also reports an invalid tag if a signal handler raises meanwhile, as on Ctrl-C.
                raise KeyboardInterrupt from None
            raise SealError("the record does not open: it was changed, or sealed for another mission") from None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an identity cannot be pickled or copied")


def load_recipient(value: str) -> Recipient:
    """The recipient that `DECODER_RECIPIENT` gives, inline or as a file name.

    Raises:
        KeyFormatError: it is neither; the text names the variable.
    """
    try:
        return Recipient.from_line(load_key(Kind.RECIPIENT, value))
    except KeyFormatError as error:
        raise KeyFormatError(f"DECODER_RECIPIENT: {error}") from None


def load_identity(path: Path) -> Identity:
    """The identity in a file.

    Raises:
        KeyFormatError: the file holds no identity, or is open to group or others.
    """
    return Identity.from_line(expect_file(Kind.IDENTITY, path))


def _plaintext(secrets: Sequence[Secret]) -> bytes:
    document = {"v": PLAINTEXT_VERSION, "secrets": [secret.stored() for secret in secrets]}
    # ASCII escapes can represent lone surrogates; UTF-8 cannot.
    return _compact(document).encode()


_compact = json.JSONEncoder(separators=(",", ":")).encode
# The plaintext of a result without secrets.
EMPTY_BYTES = len(_plaintext([]))


def secret_bytes(secret: Secret) -> int:
    """The bytes that one secret takes in a result's plaintext, including a comma."""
    return len(_compact(secret.stored())) + 1


def seal_secrets(recipient: Recipient, secrets: Sequence[Secret], *, mission_id: str, token: int) -> bytes:
    """The sealed record of a document's secrets, possibly none."""
    return recipient.seal(_plaintext(secrets), mission_id=mission_id, token=token)


def open_secrets(identity: Identity, record: bytes, *, mission_id: str, token: int) -> list[Secret]:
    """The secrets in a sealed record.

    Raises:
        SealError: it does not open, or holds something else (an attacker with a worker's login can seal anything).
    """
    plaintext = identity.open(record, mission_id=mission_id, token=token)
    try:
        document = json.loads(plaintext)
        if document["v"] != PLAINTEXT_VERSION:
            raise SealError("the record opens, but this release does not read its content's version")
        return [Secret.from_dict(item) for item in document["secrets"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SealError("the record opens, but does not hold a list of secrets") from None
