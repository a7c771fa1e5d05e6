from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.errors import DecoderError, KeyFormatError
from mission.seal.key_files import KeyLine, Kind, expect_file, load_key, read_key_file, write_key_file

LINE = KeyLine(Kind.IDENTITY, "x25519", bytes(range(32)))


def _file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@given(st.sampled_from(Kind), st.binary(max_size=80))
def test_a_line_parses_back_to_what_it_was_made_of(kind: Kind, material: bytes) -> None:
    line = KeyLine(kind, "label", material)
    assert KeyLine.parse(line.text) == line


def test_a_line_says_what_it_is() -> None:
    assert LINE.text == "decoder-identity:x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAECAwQ",
        "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq",
        "decoder-identity:x25519",
        "decoder-identity:x25519:AAEC:AAEC",
        "decoder-secret:x25519:AAEC",
        "decoder-identity:x25519:AAE=",
        "decoder-identity:x25519:AA+/",
        "decoder-identity:x25519:AAECA",
        "decoder-identity:x25519:AAF",
        "decoder-identity:x25519:AA EC",
        "decoder-identity:x25519:ÄÖ",
    ],
)
def test_what_is_no_key_line_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        KeyLine.parse(text)
    assert "\n" not in str(caught.value)
    assert not text or text not in str(caught.value)


def test_a_key_of_another_kind_is_named_and_not_shown() -> None:
    with pytest.raises(KeyFormatError, match=r"expected a recipient .* got an identity") as caught:
        load_key(Kind.RECIPIENT, LINE.text)
    assert LINE.text.rpartition(":")[2] not in str(caught.value)


def test_the_material_is_not_in_the_repr() -> None:
    assert repr(LINE) == "KeyLine(kind=<Kind.IDENTITY: 'decoder-identity'>, label='x25519')"


def test_blank_lines_and_comments_do_not_count(tmp_path: Path) -> None:
    path = _file(tmp_path / "key", f"# made for the lab\n\n{LINE.text}\n\n")
    assert read_key_file(path) == LINE


@pytest.mark.parametrize("text", ["", "# nothing\n", f"{LINE.text}\n{LINE.text}\n", "\xff\xfe", "x" * 70_000])
def test_a_file_without_exactly_one_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyFormatError, match=str(path)):
        read_key_file(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o644, 0o601])
def test_an_identity_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path / "key", LINE.text, mode)
    with pytest.raises(KeyFormatError, match=f"run `chmod 600 {path}`"):
        read_key_file(path)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_url_key_that_is_open_to_the_world_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path / "key", KeyLine(Kind.URL_KEY, "v1", bytes(32)).text, mode)
    with pytest.raises(KeyFormatError, match="open to others"):
        read_key_file(path)


def test_a_url_key_may_be_read_by_a_group_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    line = KeyLine(Kind.URL_KEY, "v1", bytes(32))
    real = _file(tmp_path / "..data", line.text, 0o440)
    link = tmp_path / "url.key"
    link.symlink_to(real)
    assert read_key_file(link) == line


def test_a_recipient_may_be_read_by_all(tmp_path: Path) -> None:
    line = KeyLine(Kind.RECIPIENT, "x25519", bytes(32))
    assert read_key_file(_file(tmp_path / "key", line.text, 0o644)) == line


@pytest.mark.parametrize("mode", [0o646, 0o666, 0o602, 0o777])
def test_a_recipient_that_everybody_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    """An attacker who replaces the key reads all later results."""
    line = KeyLine(Kind.RECIPIENT, "x25519", bytes(32))
    path = _file(tmp_path / "key", line.text, mode)
    with pytest.raises(KeyFormatError, match=f"{path} is writable by every user .*: run `chmod o-w {path}`"):
        read_key_file(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(KeyFormatError, match="chmod o-w"):
        read_key_file(link)


def test_a_file_that_is_not_there_or_a_folder_is_named_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(KeyFormatError, match=f"{tmp_path}/none: No such file"):
        read_key_file(tmp_path / "none")
    with pytest.raises(KeyFormatError, match="Is a directory"):
        read_key_file(tmp_path)


def test_a_key_is_taken_inline_and_from_a_file(tmp_path: Path) -> None:
    path = _file(tmp_path / "key", LINE.text)
    assert load_key(Kind.IDENTITY, f" {LINE.text} ") == load_key(Kind.IDENTITY, str(path)) == LINE


@pytest.mark.parametrize(
    "value", ["", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "x" * 5000, "a\0b", "/none/key", "~no-such-user/key"]
)
def test_a_value_that_is_neither_key_nor_file_is_not_repeated(value: str) -> None:
    with pytest.raises(KeyFormatError, match="expected a URL key") as caught:
        load_key(Kind.URL_KEY, value)
    assert not value or value not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path / "key", LINE.text)
    with pytest.raises(KeyFormatError, match="expected a URL key, got an identity"):
        expect_file(Kind.URL_KEY, path)


@pytest.mark.parametrize("kind", [Kind.IDENTITY, Kind.URL_KEY])
def test_private_keys_are_written_for_their_owner_alone(tmp_path: Path, kind: Kind) -> None:
    line = KeyLine(kind, "v1", bytes(32))
    previous = os.umask(0)
    try:
        write_key_file(tmp_path / "key", line)
    finally:
        os.umask(previous)
    assert read_key_file(tmp_path / "key") == line
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_is_never_overwritten_nor_a_link_followed(tmp_path: Path) -> None:
    path, link = _file(tmp_path / "key", "precious"), tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for place in (path, link):
        with pytest.raises(DecoderError, match=f"{place} already exists"):
            write_key_file(place, LINE)
    assert path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DecoderError, match=r"cannot write the key file .*No such file"):
        write_key_file(tmp_path / "none" / "key", LINE)


def test_a_key_that_does_not_fit_on_the_disk_leaves_no_half_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(DecoderError, match="File too large"):
            write_key_file(tmp_path / "key", LINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "key").exists()
