"""URL keys: how the ledger stores a URL, and how it compares two URLs without keeping them.

A record is `u8 version ‖ 4-byte key id ‖ 12-byte nonce ‖ AES-256-GCM ciphertext`, under a key for the mission
(HMAC-SHA256 of the URL key, RFC 2104) with the mission's id as associated data. Each use of a URL key has its
own label as a prefix, so that the outputs of two uses never coincide.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import uuid
from typing import NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mission.errors import KeyFormatError, SealError, SettingsError
from mission.seal.key_files import KeyLine, Kind, load_key
from mission.settings import Settings

LABEL = "v1"
KEY_BYTES = 32
RECORD_VERSION = 1
KEY_ID_BYTES = 4
NONCE_BYTES = 12

_VERSION = bytes([RECORD_VERSION])
_NONCE_AT = 1 + KEY_ID_BYTES
_SEALED_AT = _NONCE_AT + NONCE_BYTES


def key_line(key: bytes) -> KeyLine:
    """The key line of a URL key of 32 bytes."""
    return KeyLine(Kind.URL_KEY, LABEL, key)


def generate_url_key() -> str:
    """The key line of a new URL key."""
    return key_line(secrets.token_bytes(KEY_BYTES)).text


def key_id(key: bytes) -> bytes:
    """The 4 bytes that name a URL key in a record."""
    return hashlib.sha256(b"decoder-url-key-id\0" + key).digest()[:KEY_ID_BYTES]


def check_url_key(line: KeyLine) -> bytes:
    """The 32 bytes of a URL key's line.

    Raises:
        KeyFormatError: the label is unknown, or the key is not 32 bytes long.
    """
    if line.label != LABEL:
        raise KeyFormatError(f"{Kind.URL_KEY.noun} of an unknown version: expected {Kind.URL_KEY.value}:{LABEL}:…")
    if len(line.material) != KEY_BYTES:
        raise KeyFormatError(f"{Kind.URL_KEY.noun} has {KEY_BYTES} bytes, this one {len(line.material)}")
    return line.material


class UrlKeyring:
    """One or more URL keys: the first one encrypts, all of them decrypt."""

    __slots__ = ("_keys",)

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = {key_id(key): hmac.new(key, digestmod="sha256") for key in keys}

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The keys of `DECODER_URL_KEY`.

        Raises:
            SettingsError: it is not set, or holds something that is not a URL key.
        """
        if settings.url_key is None:
            raise SettingsError(
                "DECODER_URL_KEY: not set; takes a URL key, inline or a file (`decoder keys generate --url-key FILE`)"
            )
        return cls.parse(settings.url_key.get_secret_value())

    @classmethod
    def parse(cls, value: str) -> Self:
        """The keys that `DECODER_URL_KEY` gives: a comma-separated list, each item inline or a file name.

        Raises:
            KeyFormatError: the list is empty, or an item is not a URL key. The text names the variable and
                repeats no item.
        """
        items = [item.strip() for item in value.split(",") if item.strip()]
        try:
            if not items:
                raise KeyFormatError("the list is empty; create a key with `decoder keys generate --url-key FILE`")
            return cls([check_url_key(load_key(Kind.URL_KEY, item)) for item in items])
        except KeyFormatError as error:
            raise KeyFormatError(f"DECODER_URL_KEY: {error}") from None

    @property
    def key_ids(self) -> list[str]:
        """The ids of the keys in hexadecimal; the first key encrypts."""
        return [name.hex() for name in self._keys]

    def encrypt(self, url: str, mission_id: str) -> bytes:
        """The record of a mission's URL, encrypted with the first key."""
        name, key = next(iter(self._keys.items()))
        bound, nonce = mission_id.encode(), os.urandom(NONCE_BYTES)
        cipher = AESGCM(_mac(key, b"url" + bound))
        return _VERSION + name + nonce + cipher.encrypt(nonce, url.encode(), bound)

    def decrypt(self, record: bytes, mission_id: str) -> str:
        """The URL of a mission's record.

        Raises:
            SealError: its key is not in the list, it was changed, or it belongs to another mission.
        """
        if record[:1] != _VERSION:
            raise SealError("this release does not read the format of the URL's record")
        key = self._keys.get(record[1:_NONCE_AT])
        if key is None:
            raise SealError(
                f"the URL is encrypted with key {record[1:_NONCE_AT].hex()}, which is not in DECODER_URL_KEY"
            )
        bound = mission_id.encode()
        cipher = AESGCM(_mac(key, b"url" + bound))
        try:
            return cipher.decrypt(record[_NONCE_AT:_SEALED_AT], record[_SEALED_AT:], bound).decode()
        except (InvalidTag, ValueError):
            raise SealError("the URL's record does not open: it was changed, or belongs to another mission") from None

    def fingerprint(self, name: str, mission_id: str, url: str) -> str:
        """The keyed fingerprint of a mission's URL under the key with that id, in hexadecimal."""
        message = b"fingerprint\0" + mission_id.encode() + b"\0" + url.encode()
        return _mac(self._keys[bytes.fromhex(name)], message).hex()

    def derive_ids(self, submitter: str, idempotency_key: str, url: str | None = None) -> dict[str, str]:
        """The mission id that an idempotency key stands for, by the id of each URL key; the encrypting key's id is first.

        With a URL, the id for this key and URL together. The ids are UUIDs of version 8 (RFC 9562, section 5.8).
        Each text has its length as a prefix, so that two sequences of texts never give the same message.
        """
        texts = [submitter.encode(), idempotency_key.encode(errors="surrogatepass")]
        label = b"idempotency\0"
        if url is not None:
            texts.append(url.encode())
            label = b"idempotency-of-each\0"
        message = label + _framed(*texts)
        return {name.hex(): _uuid8(_mac(key, message)) for name, key in self._keys.items()}

    def derive_batch_id(self, submitter: str, idempotency_key: str) -> str:
        """The id of the batch that an idempotency key stands for, also a UUID."""
        message = b"batch\0" + _framed(submitter.encode(), idempotency_key.encode(errors="surrogatepass"))
        return _uuid8(_mac(next(iter(self._keys.values())), message))

    def __repr__(self) -> str:
        return f"UrlKeyring({', '.join(name.hex() for name in self._keys)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a URL key cannot be pickled or copied")


def _mac(key: hmac.HMAC, message: bytes) -> bytes:
    """HMAC-SHA256 of a message. `hmac.digest` releases the GIL each time: with 16 threads it takes three times the CPU."""
    mac = key.copy()
    mac.update(message)
    return mac.digest()


def _framed(*texts: bytes) -> bytes:
    """The texts, each but the last with its length as a prefix."""
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts[:-1]) + texts[-1]


def _uuid8(digest: bytes) -> str:
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version
    number = number & ~(0b11 << 62) | 0b10 << 62  # variant
    return str(uuid.UUID(int=number))
