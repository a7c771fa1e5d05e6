"""The charset of a body: byte order mark, header, default. It never raises, and never uses a codec that is not a charset."""

import codecs
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.extract.charset import _CODECS, decode_body

MIB_10 = 10 * 1024 * 1024
TEXT = "{* KEY: grüße *}"


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_wins_over_the_header_and_is_dropped(mark: bytes, codec: str) -> None:
    assert decode_body(mark + TEXT.encode(codec), "text/plain; charset=koi8-r") == TEXT


@pytest.mark.parametrize(
    "header", [None, "", "text/html", "text/html;", "charset=latin1", ";;;=", "text/html; charset="]
)
def test_without_a_charset_it_is_utf_8(header: str | None) -> None:
    assert decode_body(TEXT.encode(), header) == TEXT


@pytest.mark.parametrize(
    ("header", "codec"),
    [
        ("text/plain; charset=iso-8859-1", "latin-1"),
        ("text/plain;charset=ISO-8859-1", "latin-1"),
        ('text/plain; Charset="Windows-1252"; x=y', "cp1252"),
        ('text/plain; title="a; charset=koi8-r"; charset=latin1', "latin-1"),
        ("text/plain; charset=latin1; charset=utf-8", "latin-1"),
        ("text/plain; charset=utf-16", "utf-16-le"),
        ("text/plain; charset=utf-16be", "utf-16-be"),
        ("text/plain; charset=gb2312", "gb18030"),
    ],
)
def test_the_header_names_the_charset(header: str, codec: str) -> None:
    assert decode_body(TEXT.encode(codec), header) == TEXT


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("koi8-r", "пароль"),
        ("windows-1251", "пароль"),
        ("shift_jis", "秘密①"),  # with one of Microsoft's additions, which pages use
        ("euc-jp", "秘密"),
        ("iso-2022-jp", "秘密"),
        ("big5", "密碼"),
        ("gb18030", "密码"),
        ("euc-kr", "비밀"),
        ("iso-8859-7", "μυστικό"),
    ],
)
def test_charsets_of_the_world_are_known(label: str, text: str) -> None:
    assert decode_body(text.encode(_CODECS[label]), f"text/plain; charset={label}") == text


def test_latin_1_means_windows_1252_as_in_browsers() -> None:
    assert decode_body(b"\x80 \x81", "text/plain; charset=latin1") == "€ \x81"


@pytest.mark.parametrize(
    "label",
    [
        *("zip", "hex", "base64", "bz2", "rot13", "uu", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
        *("utf-7", "mbcs", "undefined", "utf-8-sig", "no such thing", "../utf_8", "é", "\x00", "utf\u20118"),
    ],
)
def test_what_is_no_known_charset_is_read_as_utf_8(label: str) -> None:
    assert decode_body(TEXT.encode(), f'text/plain; charset="{label}"') == TEXT


def test_every_label_leads_to_a_text_encoding() -> None:
    for codec in set(_CODECS.values()):
        assert isinstance(codecs.decode(b"", codec), str)


def test_bytes_outside_the_charset_become_replacement_characters() -> None:
    assert decode_body(b"a\xffb", None) == "a\ufffdb"
    assert decode_body(b"a\xd2b", "text/plain; charset=greek") == "a\ufffdb"


@given(st.binary(), st.sampled_from(sorted(_CODECS)))
def test_no_body_raises_and_all_of_it_can_be_sealed(body: bytes, label: str) -> None:
    decode_body(body, f"text/plain; charset={label}").encode("utf-8")


@given(st.text())
def test_no_header_raises(header: str) -> None:
    assert isinstance(decode_body(b"abc", header), str)
    assert isinstance(decode_body(b"abc", "text/plain; charset=" + header), str)


@pytest.mark.parametrize("codec", sorted(set(_CODECS.values())))
def test_ten_mebibytes_of_bad_bytes_take_bounded_time(codec: str) -> None:
    label = next(label for label, known in _CODECS.items() if known == codec)
    for unit in (b"\xff", b"\x81", b"\xd8\x00", b"\x00\xd8"):
        body = unit * (MIB_10 // len(unit))
        started = time.process_time()
        decode_body(body, f"text/plain; charset={label}")
        assert time.process_time() - started < 5.0


def test_a_long_header_takes_bounded_time() -> None:
    started = time.process_time()
    decode_body(b"", "; " * MIB_10 + ";charset=" + "x" * MIB_10)
    assert time.process_time() - started < 1.0
