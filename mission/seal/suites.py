"""The HPKE suites (RFC 9180), and how each builds keys from bytes.

`mlkem768-x25519` is X-Wing (draft-connolly-cfrg-xwing-kem): it is secure as long as either half is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

SEED_BYTES = 32
_MLKEM_PUBLIC_BYTES = 1184

PublicKey = X25519PublicKey | MLKEM768X25519PublicKey
PrivateKey = X25519PrivateKey | MLKEM768X25519PrivateKey


@dataclass(frozen=True, slots=True)
class SealSuite:
    """An HPKE suite. `ids` are KEM, KDF and AEAD as in a record's header; sizes are in bytes.

    A private key is derived from a seed of 32 bytes, and is returned with the bytes of its public key.
    """

    name: str
    ids: tuple[int, int, int]
    hpke: Suite
    public_bytes: int
    load_public: Callable[[bytes], PublicKey]
    load_private: Callable[[bytes], tuple[PrivateKey, bytes]]


def _hybrid_public(raw: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
    )


def _hybrid_private(seed: bytes) -> tuple[MLKEM768X25519PrivateKey, bytes]:
    # X-Wing's expandDecapsulationKey: 64 bytes (d ‖ z) for ML-KEM, 32 for X25519.
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(mlkem, x25519), public


def _x25519_private(seed: bytes) -> tuple[X25519PrivateKey, bytes]:
    private = X25519PrivateKey.from_private_bytes(seed)
    return private, private.public_key().public_bytes_raw()


HYBRID = SealSuite(
    name="mlkem768-x25519",
    ids=(0x647A, 0x0001, 0x0002),
    hpke=Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    public_bytes=_MLKEM_PUBLIC_BYTES + 32,
    load_public=_hybrid_public,
    load_private=_hybrid_private,
)
X25519 = SealSuite(
    name="x25519",
    ids=(0x0020, 0x0001, 0x0002),
    hpke=Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    public_bytes=32,
    load_public=X25519PublicKey.from_public_bytes,
    load_private=_x25519_private,
)
SUITES: Mapping[str, SealSuite] = MappingProxyType({suite.name: suite for suite in (HYBRID, X25519)})
