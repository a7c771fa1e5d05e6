from __future__ import annotations

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKeyInterface

from mission.errors import KeyFormatError, SealError
from mission.model import Secret
from mission.seal.key_files import KeyLine, write_key_file
from mission.seal.sealing import (
    Identity,
    Recipient,
    RecordHeader,
    load_identity,
    load_recipient,
    open_secrets,
    seal_secrets,
)
from mission.seal.suites import HYBRID, SUITES, X25519, SealSuite

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
TOKEN = 3
HEADER_BYTES = 27
IDENTITIES = {name: Identity(suite, bytes(range(32))) for name, suite in SUITES.items()}
SECRETS = [Secret("marker", "API_KEY", "s3cr€t 𝄞", 1, 2), Secret("marker", "UNCLASSIFIED", "\ud800", 7, 1)]

each_suite = pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES)


def _seal(identity: Identity, plaintext: bytes = b"found") -> bytes:
    return identity.recipient.seal(plaintext, mission_id=MISSION, token=TOKEN)


@each_suite
def test_what_was_sealed_to_a_recipient_its_identity_opens(identity: Identity) -> None:
    recipient = Recipient.from_line(KeyLine.parse(identity.recipient.text))
    record = seal_secrets(recipient, SECRETS, mission_id=MISSION, token=TOKEN)
    assert (
        open_secrets(Identity.from_line(KeyLine.parse(identity.text)), record, mission_id=MISSION, token=TOKEN)
        == SECRETS
    )


@settings(max_examples=25)
@given(st.binary(max_size=3000), st.integers(0, 2**64 - 1))
def test_any_plaintext_and_any_token_survive(plaintext: bytes, token: int) -> None:
    identity = IDENTITIES["x25519"]
    record = identity.recipient.seal(plaintext, mission_id=MISSION, token=token)
    assert identity.open(record, mission_id=MISSION, token=token) == plaintext


# In a separate process: the signal may raise anywhere, which must not be inside pytest or coverage. Most signals hit the decryption.
_INTERRUPTED = """
import signal
from mission.seal.sealing import Identity
from mission.seal.suites import SUITES

def open_until_interrupted(identity, record):
    while True:
        identity.open(record, mission_id="m", token=1)

signal.signal(signal.SIGALRM, signal.default_int_handler)
for suite in SUITES.values():
    identity = Identity.generate(suite)
    record = identity.recipient.seal(b"found", mission_id="m", token=1)
    for _ in range(50):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            open_until_interrupted(identity, record)
        except KeyboardInterrupt:
            pass
"""


def test_ctrl_c_while_a_record_is_opened_is_no_damaged_record() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_secrets_are_sealed_as_well() -> None:
    identity = IDENTITIES["x25519"]
    record = seal_secrets(identity.recipient, [], mission_id=MISSION, token=TOKEN)
    assert open_secrets(identity, record, mission_id=MISSION, token=TOKEN) == []


@pytest.mark.parametrize(("suite", "kem"), [(HYBRID, "647a"), (X25519, "0020")])
def test_the_header_has_the_agreed_bytes(suite: SealSuite, kem: str) -> None:
    identity = IDENTITIES[suite.name]
    public = identity.recipient.line.material
    expected = b"DCDR" + bytes.fromhex(f"01 {kem} 0001 0002") + hashlib.sha256(public).digest()[:8]
    record = identity.recipient.seal(b"", mission_id=MISSION, token=0x0102)
    assert record[:HEADER_BYTES] == expected + bytes.fromhex("0000000000000102")


def test_the_plaintext_is_the_agreed_json() -> None:
    identity = IDENTITIES["x25519"]
    record = seal_secrets(identity.recipient, SECRETS[:1], mission_id=MISSION, token=TOKEN)
    assert json.loads(identity.open(record, mission_id=MISSION, token=TOKEN)) == {
        "v": 1,
        "secrets": [{"detector": "marker", "category": "API_KEY", "value": "s3cr€t 𝄞", "line": 1, "column": 2}],
    }


def test_the_hybrid_seed_gives_the_public_key_of_xwing() -> None:
    """The first test vector of draft-connolly-cfrg-xwing-kem, by the first bytes of its public key."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = Identity(HYBRID, seed).recipient.line.material
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5")


@each_suite
def test_every_changed_byte_is_refused(identity: Identity) -> None:
    record = _seal(identity)
    for place in range(len(record)):
        changed = bytearray(record)
        changed[place] ^= 1
        with pytest.raises(SealError):
            identity.open(bytes(changed), mission_id=MISSION, token=TOKEN)


@each_suite
def test_every_truncation_and_an_appended_byte_are_refused(identity: Identity) -> None:
    record = _seal(identity)
    for length in range(len(record)):
        with pytest.raises(SealError):
            identity.open(record[:length], mission_id=MISSION, token=TOKEN)
    with pytest.raises(SealError):
        identity.open(record + b"\0", mission_id=MISSION, token=TOKEN)


@each_suite
def test_a_record_under_another_missions_id_is_refused(identity: Identity) -> None:
    with pytest.raises(SealError, match="another mission"):
        identity.open(_seal(identity), mission_id=OTHER, token=TOKEN)


@each_suite
def test_a_record_of_another_claim_is_refused(identity: Identity) -> None:
    with pytest.raises(SealError, match="does not belong to the committed claim"):
        identity.open(_seal(identity), mission_id=MISSION, token=TOKEN + 1)


@each_suite
def test_a_token_exchanged_in_the_header_is_refused(identity: Identity) -> None:
    record = _seal(identity)
    header = RecordHeader.parse(record)
    moved = RecordHeader(header.suite_ids, header.key_id, TOKEN + 1).pack() + record[HEADER_BYTES:]
    with pytest.raises(SealError, match="does not open"):
        identity.open(moved, mission_id=MISSION, token=TOKEN + 1)


@each_suite
def test_another_identity_is_refused_and_both_keys_are_named(identity: Identity) -> None:
    stranger = Identity.generate(identity.suite)
    with pytest.raises(SealError, match=identity.key_id.hex()) as caught:
        stranger.open(_seal(identity), mission_id=MISSION, token=TOKEN)
    assert stranger.key_id.hex() in str(caught.value)


def test_a_forged_key_id_does_not_help() -> None:
    identity, stranger = IDENTITIES["x25519"], Identity.generate(X25519)
    header = RecordHeader(X25519.ids, stranger.key_id, TOKEN).pack()
    with pytest.raises(SealError, match="does not open"):
        stranger.open(header + _seal(identity)[HEADER_BYTES:], mission_id=MISSION, token=TOKEN)


def test_a_record_of_a_newer_format_says_so() -> None:
    identity = IDENTITIES["x25519"]
    record = bytearray(_seal(identity))
    record[4] = 2
    with pytest.raises(SealError, match="version 2; this release reads 1"):
        identity.open(bytes(record), mission_id=MISSION, token=TOKEN)


def test_two_seals_of_the_same_differ() -> None:
    assert _seal(IDENTITIES["x25519"]) != _seal(IDENTITIES["x25519"])


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"v":2,"secrets":[]}',
        b'{"v":1}',
        b'{"v":1,"secrets":[{}]}',
        b'{"v":1,"secrets":["x"]}',
        b'{"v":1,"secrets":[{"detector":"m","category":"c","value":1,"line":1,"column":1}]}',
        b'{"v":1,"secrets":[{"detector":"m","category":"c","value":"v","line":true,"column":1}]}',
        b"[" * 100_000,
    ],
)
def test_a_record_that_opens_but_holds_something_else_is_refused(plaintext: bytes) -> None:
    identity = IDENTITIES["x25519"]
    with pytest.raises(SealError, match="opens, but"):
        open_secrets(identity, _seal(identity, plaintext), mission_id=MISSION, token=TOKEN)


@each_suite
def test_neither_key_shows_its_material(identity: Identity) -> None:
    for key in (identity, identity.recipient, [identity, identity.recipient]):
        for text in (repr(key), str(key), f"{key}"):
            assert identity.text.rpartition(":")[2] not in text
            assert identity.recipient.text.rpartition(":")[2][:40] not in text
            assert identity.key_id.hex() in text


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_identity_is_neither_pickled_nor_copied(way: object) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        way(IDENTITIES["x25519"])  # type: ignore[operator]  # one of the three above


def test_generated_identities_differ_and_use_the_hybrid() -> None:
    first, second = Identity.generate(), Identity.generate()
    assert first.text != second.text
    assert first.suite is HYBRID


@pytest.mark.parametrize(
    ("key", "suite", "size", "why"),
    [
        *((Recipient, name, 31, f"has {suite.public_bytes} bytes, this one 31") for name, suite in SUITES.items()),
        # All zeroes: for X25519 a point of low order, which would give a secret that everyone knows.
        *((Recipient, name, suite.public_bytes, "damaged") for name, suite in SUITES.items()),
        (Identity, "x25519", 33, "has 32 bytes, this one 33"),
        (Recipient, "rot13", 32, "expected mlkem768-x25519 or x25519"),
        (Identity, "rot13", 32, "expected mlkem768-x25519 or x25519"),
    ],
)
def test_a_line_that_holds_no_key_is_refused_at_once(
    key: type[Recipient | Identity], suite: str, size: int, why: str
) -> None:
    with pytest.raises(KeyFormatError, match=why):
        key.from_line(KeyLine(key.KIND, suite, bytes(size)))


def test_an_identity_where_a_recipient_is_wanted_is_named_and_not_shown() -> None:
    identity = IDENTITIES["mlkem768-x25519"]
    with pytest.raises(KeyFormatError, match=r"DECODER_RECIPIENT: .* got an identity") as caught:
        load_recipient(identity.text)
    assert identity.text.rpartition(":")[2] not in str(caught.value)


@each_suite
def test_keys_are_loaded_from_files(tmp_path: Path, identity: Identity) -> None:
    write_key_file(tmp_path / "reader.key", identity.line)
    write_key_file(tmp_path / "reader.pub", identity.recipient.line)
    assert load_identity(tmp_path / "reader.key").text == identity.text
    assert load_recipient(str(tmp_path / "reader.pub")).text == identity.recipient.text


def _independent() -> tuple[CipherSuite, KEMKeyInterface, KEMKeyInterface]:
    """The same key in pyhpke, another implementation of RFC 9180."""
    identity = IDENTITIES["x25519"]
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    private = suite.kem.deserialize_private_key(identity.line.material)
    public = suite.kem.deserialize_public_key(identity.recipient.line.material)
    return suite, private, public


def test_an_independent_implementation_opens_an_x25519_record() -> None:
    suite, private, _ = _independent()
    record = _seal(IDENTITIES["x25519"])
    header, enc, sealed = record[:HEADER_BYTES], record[HEADER_BYTES : HEADER_BYTES + 32], record[HEADER_BYTES + 32 :]
    context = suite.create_recipient_context(enc, private, info=header + MISSION.encode())
    assert context.open(sealed) == b"found"


def test_a_record_of_an_independent_implementation_opens() -> None:
    identity = IDENTITIES["x25519"]
    suite, _, public = _independent()
    header = RecordHeader(X25519.ids, identity.key_id, TOKEN).pack()
    enc, context = suite.create_sender_context(public, info=header + MISSION.encode())
    record = header + enc + context.seal(b"found")
    assert identity.open(record, mission_id=MISSION, token=TOKEN) == b"found"
