"""Sealed records and independent implementations of HPKE open each other, in both directions.

The hybrid suite: npm's `@hpke/core` with `@hpke/hybridkem-x-wing`, which share no code with `cryptography`. X25519 alone:
`pyhpke`, in tests/unit/mission/seal/test_sealing.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mission.seal.sealing import Identity, RecordHeader
from mission.seal.suites import HYBRID
from tests.conftest import unavailable

pytestmark = pytest.mark.full

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
TOKEN = 7
HEADER_BYTES = 27
ENC_BYTES = 1120
PLAINTEXT = '{"v":1,"secrets":[]} - ü €'.encode()

# Exact versions, also of the dependencies of the two: no version runs that was not reviewed.
PACKAGES = {
    "@hpke/core": "1.9.0",
    "@hpke/hybridkem-x-wing": "0.7.0",
    "@hpke/common": "1.10.1",
    "@hpke/dhkem-x25519": "1.8.0",
    "mlkem": "2.7.0",
}
PROGRAM = """
import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";
import { readFileSync } from "node:fs";

const bytes = (text) => new Uint8Array(Buffer.from(text, "hex")).buffer;
const hex = (buffer) => Buffer.from(buffer).toString("hex");
const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = {
  async public() {
    const pair = await suite.kem.generateKeyPairDerand(new Uint8Array(bytes(asked.seed)));
    return { public: hex(await suite.kem.serializePublicKey(pair.publicKey)) };
  },
  async seal() {
    const key = await suite.kem.importKey("raw", bytes(asked.public), true);
    const sender = await suite.createSenderContext({ recipientPublicKey: key, info: bytes(asked.info) });
    return { enc: hex(sender.enc), sealed: hex(await sender.seal(bytes(asked.plaintext))) };
  },
  async open() {
    const key = await suite.kem.importKey("raw", bytes(asked.seed), false);
    const recipient = await suite.createRecipientContext({ recipientKey: key, enc: bytes(asked.enc), info: bytes(asked.info) });
    try {
      return { plaintext: hex(await recipient.open(bytes(asked.sealed))) };
    } catch (error) {
      return { refused: error.name };
    }
  },
};
console.log(JSON.stringify(await answers[asked.do]()));
"""

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Ask the other implementation: `other("open", seed=..., ...)`, bytes in and out as hex."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unavailable("no node and npm on PATH")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module", "dependencies": PACKAGES}))
    (folder / "other.js").write_text(PROGRAM)
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode:
        unavailable(f"npm cannot install the other implementation: {done.stderr.strip()[-300:]}")
    _check_versions(folder)

    def ask(what: str, **values: bytes) -> dict[str, Any]:
        asked = json.dumps({"do": what} | {name: value.hex() for name, value in values.items()})
        ran = subprocess.run(
            [node, "other.js"], cwd=folder, input=asked, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        answer: dict[str, Any] = json.loads(ran.stdout)
        return answer

    return ask


def _check_versions(folder: Path) -> None:
    found = {
        about["name"]: about["version"]
        for file in folder.glob("node_modules/**/package.json")
        if "version" in (about := json.loads(file.read_text()))
    }
    assert found == PACKAGES


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.generate(HYBRID)


def _split(record: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, enc and ciphertext of a record, as docs/encryption.md has the format."""
    return record[:HEADER_BYTES], record[HEADER_BYTES : HEADER_BYTES + ENC_BYTES], record[HEADER_BYTES + ENC_BYTES :]


def _record(identity: Identity) -> tuple[bytes, bytes, bytes]:
    return _split(identity.recipient.seal(PLAINTEXT, mission_id=MISSION, token=TOKEN))


# draft-connolly-cfrg-xwing-kem-08, appendix C: secret key, and the first and last 32 bytes of the public key.
VECTORS = [
    (
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5",
        "859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534",
    ),
    (
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "0333285fa253661508c9fb444852caa4061636cb060e69943b431400134ae1fb",
        "9f7ed34bcbb48fd4c562a576549f85b528c953926d96ea8a160b8843f1c89c62",
    ),
    (
        "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        "36244278824f77c621c660892c1c3886a9560caa52a97c461fd3958a598e749b",
        "d31ae3cbc1c013747dfee80fb35b5299f555dcc2b787ea4f6f16ffdf66952461",
    ),
]


@pytest.mark.parametrize(("seed", "start", "end"), VECTORS)
def test_the_published_vectors_hold_for_the_public_key(seed: str, start: str, end: str) -> None:
    public = Identity(HYBRID, bytes.fromhex(seed)).recipient.line.material.hex()
    assert public.startswith(start)
    assert public.endswith(end)


def test_both_make_the_same_public_key_of_a_seed(other: Ask, identity: Identity) -> None:
    for seed in (identity.line.material, bytes.fromhex(VECTORS[0][0])):
        assert other("public", seed=seed)["public"] == Identity(HYBRID, seed).recipient.line.material.hex()


def test_the_other_opens_what_we_sealed(other: Ask, identity: Identity) -> None:
    header, enc, sealed = _record(identity)
    info = header + MISSION.encode()
    answer = other("open", seed=identity.line.material, enc=enc, sealed=sealed, info=info)
    assert answer == {"plaintext": PLAINTEXT.hex()}


def test_we_open_what_the_other_sealed(other: Ask, identity: Identity) -> None:
    header = RecordHeader(HYBRID.ids, identity.key_id, TOKEN).pack()
    public = identity.recipient.line.material
    answer = other("seal", public=public, info=header + MISSION.encode(), plaintext=PLAINTEXT)
    record = header + bytes.fromhex(answer["enc"]) + bytes.fromhex(answer["sealed"])
    assert identity.open(record, mission_id=MISSION, token=TOKEN) == PLAINTEXT


def test_the_other_refuses_another_missions_id(other: Ask, identity: Identity) -> None:
    """So the binding is HPKE's own `info`, and not just a check of ours."""
    header, enc, sealed = _record(identity)
    info = header + b"7c9e6679-7425-40de-944b-e07fc1f90ae7"
    answer = other("open", seed=identity.line.material, enc=enc, sealed=sealed, info=info)
    assert answer == {"refused": "OpenError"}


def test_the_other_refuses_a_changed_header(other: Ask, identity: Identity) -> None:
    header, enc, sealed = _record(identity)
    info = header[:-1] + bytes([header[-1] ^ 1]) + MISSION.encode()
    answer = other("open", seed=identity.line.material, enc=enc, sealed=sealed, info=info)
    assert answer == {"refused": "OpenError"}
