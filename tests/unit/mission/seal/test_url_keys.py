from __future__ import annotations

import hmac
import pickle
import re
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from mission.errors import KeyFormatError, SealError
from mission.ids import check_mission_id
from mission.seal.key_files import KeyLine, Kind, write_key_file
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.seal.url_keys import UrlKeyring, generate_url_key, key_id, key_line

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
URL = "https://user.example/path?signature=canary-4711"
OLD, NEW = key_line(b"o" * 32).text, key_line(b"n" * 32).text


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_url_comes_back(url: str) -> None:
    keyring = UrlKeyring.parse(OLD)
    assert keyring.decrypt(keyring.encrypt(url, MISSION), MISSION) == url


def test_the_record_has_the_agreed_parts() -> None:
    keyring = UrlKeyring.parse(OLD)
    record = keyring.encrypt(URL, MISSION)
    assert record[5:] != keyring.encrypt(URL, MISSION)[5:]
    assert b"canary" not in record
    assert record[:5] == b"\x01" + key_id(b"o" * 32)
    assert len(record) == 1 + 4 + 12 + len(URL) + 16


def test_the_key_is_the_missions_own_and_its_id_is_bound() -> None:
    record = UrlKeyring.parse(OLD).encrypt(URL, MISSION)
    mission_key = hmac.digest(b"o" * 32, b"url" + MISSION.encode(), "sha256")
    assert AESGCM(mission_key).decrypt(record[5:17], record[17:], MISSION.encode()) == URL.encode()


def test_every_changed_byte_is_refused() -> None:
    keyring = UrlKeyring.parse(OLD)
    record = keyring.encrypt(URL, MISSION)
    for place in range(len(record)):
        changed = bytearray(record)
        changed[place] ^= 1
        with pytest.raises(SealError):
            keyring.decrypt(bytes(changed), MISSION)


def test_every_truncation_is_refused() -> None:
    keyring = UrlKeyring.parse(OLD)
    record = keyring.encrypt(URL, MISSION)
    for length in range(len(record)):
        with pytest.raises(SealError):
            keyring.decrypt(record[:length], MISSION)


def test_another_missions_record_is_refused() -> None:
    keyring = UrlKeyring.parse(OLD)
    with pytest.raises(SealError, match="another mission"):
        keyring.decrypt(keyring.encrypt(URL, OTHER), MISSION)


def test_a_record_under_an_unknown_key_names_its_id() -> None:
    with pytest.raises(SealError, match=key_id(b"n" * 32).hex()):
        UrlKeyring.parse(OLD).decrypt(UrlKeyring.parse(NEW).encrypt(URL, MISSION), MISSION)


def test_during_rotation_both_generations_are_read_and_the_first_writes() -> None:
    both = UrlKeyring.parse(f"{NEW}, {OLD}")
    assert both.decrypt(UrlKeyring.parse(OLD).encrypt(URL, MISSION), MISSION) == URL
    assert UrlKeyring.parse(NEW).decrypt(both.encrypt(URL, MISSION), MISSION) == URL


def test_a_fingerprint_is_of_the_key_that_is_named_the_writing_one_is_the_first() -> None:
    both, old = UrlKeyring.parse(f"{NEW},{OLD}"), key_id(b"o" * 32).hex()
    assert both.key_ids == [key_id(b"n" * 32).hex(), old]
    assert both.fingerprint(old, MISSION, URL) == UrlKeyring.parse(OLD).fingerprint(old, MISSION, URL)
    assert both.fingerprint(old, MISSION, URL) != both.fingerprint(both.key_ids[0], MISSION, URL)


@pytest.mark.parametrize(("mission", "url"), [(OTHER, URL), (MISSION, URL + "x")])
def test_a_fingerprint_is_of_one_url_of_one_mission(mission: str, url: str) -> None:
    keyring, name = UrlKeyring.parse(OLD), key_id(b"o" * 32).hex()
    assert keyring.fingerprint(name, mission, url) != keyring.fingerprint(name, MISSION, URL)


def test_derived_ids_are_mission_ids_of_uuid_version_8() -> None:
    keyring = UrlKeyring.parse(f"{NEW},{OLD}")
    of_key, of_url = (keyring.derive_ids("team-a", "order 1", *url).values() for url in ((), (URL,)))
    for text in (*of_key, *of_url, keyring.derive_batch_id("team-a", "order 1")):
        assert check_mission_id(text) == text
        assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (8, uuid.RFC_4122)


def test_derived_ids_are_the_same_each_time_the_writing_keys_first() -> None:
    old, new = UrlKeyring.parse(OLD).derive_ids("a", "k"), UrlKeyring.parse(NEW).derive_ids("a", "k")
    assert UrlKeyring.parse(f"{NEW},{OLD}").derive_ids("a", "k") == new | old
    assert old != new


@pytest.mark.parametrize(
    ("submitter", "key"), [("ab", "c"), ("", "abc"), ("a", "bc\0"), ("a\0b", "c"), ("a", "\ud800")]
)
def test_no_two_submitters_or_keys_run_together(submitter: str, key: str) -> None:
    keyring = UrlKeyring.parse(OLD)
    assert keyring.derive_ids(submitter, key) != keyring.derive_ids("a", "bc")
    assert keyring.derive_batch_id(submitter, key) != keyring.derive_batch_id("a", "bc")


def test_a_generated_key_is_one_line_and_new_each_time() -> None:
    assert re.fullmatch(r"decoder-url-key:v1:[\w-]{43}", generate_url_key())
    assert generate_url_key() != generate_url_key()


def test_keys_are_read_from_files_and_inline(tmp_path: Path) -> None:
    write_key_file(tmp_path / "url.key", KeyLine.parse(NEW))
    keyring = UrlKeyring.parse(f"{tmp_path / 'url.key'},{OLD}")
    assert len(keyring.key_ids) == 2


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "the list is empty"),
        (" , ", "the list is empty"),
        ("bm9uc2Vuc2U", "no such file"),
        (f"{OLD},bm9uc2Vuc2U", "no such file"),
        (KeyLine(Kind.URL_KEY, "v1", bytes(31)).text, "has 32 bytes, this one 31"),
        (KeyLine(Kind.URL_KEY, "v2", bytes(32)).text, "unknown version"),
        (Identity(X25519, b"i" * 32).text, "got an identity"),
    ],
)
def test_a_bad_key_is_one_line_that_names_the_variable_and_shows_no_key(value: str, why: str) -> None:
    with pytest.raises(KeyFormatError, match=f"^DECODER_URL_KEY: .*{why}") as caught:
        UrlKeyring.parse(value)
    for item in value.split(","):
        material = item.rpartition(":")[2].strip()
        assert not material or material not in str(caught.value)


def test_a_keyring_shows_key_ids_alone_and_is_not_pickled() -> None:
    keyring = UrlKeyring.parse(f"{NEW},{OLD}")
    assert repr(keyring) == f"UrlKeyring({key_id(b'n' * 32).hex()}, {key_id(b'o' * 32).hex()})"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(keyring)
