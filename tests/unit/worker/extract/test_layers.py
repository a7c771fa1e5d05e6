"""Encoded parts of a text: each encoding, at the right position, with its key; linear and bounded on every input."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import tracemalloc
from collections.abc import Callable, Iterator
from time import monotonic
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.model import Cut
from worker.extract.layers import FACTORS, LEAST, SEPARATOR, View, escapes, runs, views
from worker.extract.layers.view import Draft

MIB = 1024 * 1024
VALUE = "correct horse battery staple 7"


def seen(text: str, seconds: float = 60) -> tuple[list[View], set[Cut]]:
    cuts: set[Cut] = set()
    return list(views(text, cuts, deadline=monotonic() + seconds)), cuts


def shown(text: str) -> list[tuple[str, str]]:
    found, cuts = seen(text)
    assert not cuts
    return [(view.encoding, view.text) for view in found]


def b64(text: str, codec: str = "utf-8") -> str:
    return base64.b64encode(text.encode(codec)).decode()


def place(found: list[View], value: str, encoding: str) -> int:
    """The position of the value in the document, according to the first view of the encoding that contains it."""
    view = next(view for view in found if view.encoding == encoding and value in view.text)
    return view.origin(view.text.index(value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Basic " + b64("admin:s3cret"), "Authorization: Basic admin:s3cret"),
        ("data:\n  password: " + b64("hunter2x") + "\n", "  password: hunter2x"),
        ("//npm.example/:_auth=" + b64("build:hunter2hunter2x") + "\n", "//npm.example/:_auth=build:hunter2hunter2x"),
        (f'{{"key": "{b64(VALUE)}", "next": 1}}', f'{{"key": "{VALUE}"'),
        (f"https://host/path/{b64(VALUE)}/more", f"https://host/path/{VALUE}"),
        ("key_" + b64(VALUE), f"key_{VALUE}"),
        ("x " + b64(VALUE).rstrip("="), f"x {VALUE}"),
        (
            "x " + base64.urlsafe_b64encode(b"https://host/?a=b>c&d=~~~~~~~~").decode(),
            "x https://host/?a=b>c&d=~~~~~~~~",
        ),
        ("x " + b64("https://host/?a=b>c&d=~~~~~~~~"), "x https://host/?a=b>c&d=~~~~~~~~"),
        ("x " + b64(VALUE, "utf-16"), f"x {VALUE}"),
        ("x " + b64(VALUE, "utf-16-le"), f"x {VALUE}"),
        ("x " + b64("пароль: секрет"), "x пароль: секрет"),
        ("ключ: " + b64(VALUE), f"ключ: {VALUE}"),
    ],
)
def test_base64_of_text_is_decoded_behind_its_key(text: str, expected: str) -> None:
    assert shown(text) == [("base64", expected)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\n    "])
@pytest.mark.parametrize("width", [40, 64, 76])
def test_base64_that_is_broken_over_lines_is_one_text(width: int, line_end: str) -> None:
    text = "".join(f"KEY{number}={VALUE}\n" for number in range(20))
    encoded = b64(text)
    lines = line_end.join(encoded[at : at + width] for at in range(0, len(encoded), width))
    assert shown(f"data:\n    {lines}\nend") == [("base64", text)]


def test_lines_of_base64_that_are_texts_of_their_own_are_not_joined() -> None:
    lines = [b64(f"{VALUE} number {number}") for number in range(10, 20)]
    assert lines[0].endswith("=")
    (view,) = shown("\n".join(lines))
    assert view[1].split(SEPARATOR) == [f"{VALUE} number {number}" for number in range(10, 20)]


def test_base64_with_something_else_behind_it_is_decoded_as_far_as_it_is_text() -> None:
    text = VALUE * 4
    assert shown(base64.b64encode(text.encode() + b"\xff\x00\xfe").decode()) == [("base64", text)]


@pytest.mark.parametrize("form", ["{}", "0x{}", "key={}"])
def test_hex_of_text_is_decoded(form: str) -> None:
    text = form.format(VALUE.encode().hex())
    found, _ = seen(text)
    assert place(found, VALUE, "hex") == text.index(VALUE.encode().hex())


@pytest.mark.parametrize(
    "text",
    [
        "d41d8cd98f00b204e9800998ecf8427e da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "getElementsByTagName InvalidOperation requestAnimationFrame AbstractSingletonProxyFactoryBean",
        "some-words-with-hyphens/and/paths_and_underscores/that/are/long",
        base64.b64encode(hashlib.sha512(b"").digest()).decode(),
        "length==1 && mouseup= 'x' content=\"y\"",
        "100% &c \\d \\w & && %zz &; &#; \\",
        "----------------------------------------------------------------",
    ],
)
def test_what_is_no_encoded_text_has_no_view(text: str) -> None:
    assert shown(text) == []


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("password=%24ecret%21", "percent", "password=$ecret!"),
        ("name=gr%C3%BC%C3%9Fe&x=%E9", "percent", "name=grüße&x=\ufffd"),
        ("https://h/?q=a+b%20c&p=1+1", "percent", "https://h/?q=a b c&p=1 1"),
        ("TOKEN=a+b%3D", "percent", "TOKEN=a+b="),  # not a form, so `+` stays
        ("see a+b https://h/?q=%2B+x", "percent", "see a+b https://h/?q=+ x"),
        ("<a href='?a=1&amp;key=&quot;&#x41;&#66;&apos;'>", "html", "<a href='?a=1&key=\"AB''>"),
        ("&nosuch;&amp;", "html", "&nosuch;&"),
        (r'{"k": "a\"b\\c\/d\u0041\n"}', "json", '{"k": "a"b\\c/dA\n"}'),
        (r"'\x41\u{1F600}\ud83d\ude00\ud83d!'", "json", "'A😀😀\ufffd!'"),
    ],
)
def test_escapes_are_decoded(text: str, encoding: str, expected: str) -> None:
    assert shown(text)[0] == (encoding, expected)


@pytest.mark.parametrize(
    ("outer", "inner", "encoding"),
    [
        (b64, b64, "base64+base64"),
        (lambda text: text.encode().hex(), b64, "base64+hex"),
        (json.dumps, lambda text: quote(text, safe=""), "percent+json"),
        (html.escape, lambda text: quote(text, safe=""), "percent+html"),
        (lambda text: json.dumps({"v": text}), html.escape, "html+json"),
        (b64, lambda text: quote(f"?q={text}&r=%", safe=""), "percent+base64"),
        (lambda text: quote(text, safe=""), lambda text: quote(f"?q={text}", safe=""), "percent+percent"),
        (json.dumps, json.dumps, "json+json"),
        (lambda text: json.dumps(f"\n{text}"), b64, "base64+json"),
        (b64, lambda text: json.dumps(f"\n{text}"), "json+base64"),
    ],
)
def test_what_is_encoded_twice_is_decoded(
    outer: Callable[[str], str], inner: Callable[[str], str], encoding: str
) -> None:
    value = 'user: "me" key: s3cr%t'
    document = "some words before it: " + inner(outer(value))
    found, _ = seen(document)
    shows = [view for view in found if view.encoding == encoding and value in view.text]
    assert shows
    assert 22 <= shows[0].origin(shows[0].text.index(value)) < len(document)


def test_a_document_is_decoded_to_depth_2() -> None:
    once, twice = b64(VALUE), b64(b64(VALUE))
    assert {encoding for encoding, _ in shown(f"{once} {twice} {b64(twice)}")} == {"base64", "base64+base64"}


def test_what_the_level_above_showed_is_not_shown_again() -> None:
    assert shown(json.dumps({"key": f"{b64(VALUE)} \n "})) == [
        ("base64", f'{{"key": "{VALUE}'),
        ("json", f'{{"key": "{b64(VALUE)} \n "}}'),
    ]


def test_a_view_holds_the_line_around_an_escape_and_no_more() -> None:
    plain = "".join(f"line {number}: nothing encoded here\n" for number in range(10_000))
    document = f"{plain}password=%24ecret # it\n{plain}"
    found, _ = seen(document)
    assert [(view.encoding, view.text) for view in found] == [("percent", "password=$ecret # it")]
    assert found[0].origin(0) == len(plain)


def test_a_long_line_is_cut_between_words() -> None:
    word = "x" * 50
    document = f"{word} " * 20 + "key=%24ecret " + f"{word} " * 20
    ((_, text),) = shown(document)
    assert len(text) < 500
    assert set(text.split()) == {word, "key=$ecret"}


@pytest.mark.parametrize(("encode", "place"), [(b64, 7 + 48), (lambda text: text.encode().hex(), 7 + 72)])
def test_what_stands_in_a_run_of_ascii_has_its_own_place(encode: Callable[[str], str], place: int) -> None:
    document = f'data: "{encode(f"a={VALUE} ab={VALUE}!")}"'
    ((view,), _) = seen(document)
    assert view.text.index("=", 10) == 7 + 35
    assert view.origin(7 + 36) == place


def test_what_a_document_holds_stands_in_no_representation() -> None:
    assert VALUE not in repr(seen("key: " + b64(VALUE))[0])


# Properties


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=20)


@given(st.text("abc \n:"), TEXTS, st.text("abc \n:"), st.sampled_from([b64, lambda text: text.encode().hex()]))
def test_runs_are_shown_at_their_place(before: str, value: str, after: str, encode: Callable[[str], str]) -> None:
    value = f"key {value}"
    document = f'{before} "{encode(value)}" {after}'
    found, _ = seen(document)
    view = next(view for view in found if value in view.text)
    at = view.text.index(value)
    origins = [view.origin(at + offset) for offset in range(len(value))]
    assert origins[0] == len(before) + 2
    assert origins == sorted(set(origins))
    assert origins[-1] < len(before) + 2 + len(encode(value))


PLAIN = "abcXYZ019:=_. "
PERCENT = st.characters(exclude_categories=["Cs"]).map(
    lambda char: (char, "".join(f"%{byte:02X}" for byte in char.encode()))
)
HTML = st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0xFFFF).flatmap(
    lambda char: st.sampled_from([(char, f"&#{ord(char)};"), (char, f"&#x{ord(char):x};")])
) | st.sampled_from([("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), ("é", "&eacute;"), ("=", "&equals;")])
JSON = (
    st.characters(exclude_categories=["Cs"])
    .map(lambda char: (char, json.dumps(char)[1:-1]))
    .filter(lambda pair: len(pair[1]) > 1)
    | st.characters(max_codepoint=255).map(lambda char: (char, f"\\x{ord(char):02x}"))
).filter(lambda pair: pair[1] not in (r"\b", r"\f"))


@given(st.data(), st.sampled_from([("percent", PERCENT), ("html", HTML), ("json", JSON)]))
def test_each_escaped_character_has_its_own_place(
    data: st.DataObject, kind: tuple[str, st.SearchStrategy[tuple[str, str]]]
) -> None:
    encoding, escapes = kind
    plain = st.sampled_from(PLAIN).map(lambda char: (char, char))
    pairs = data.draw(st.lists(plain | escapes, max_size=20))
    pairs = [*pairs, data.draw(escapes), ("z", "z")]
    document = "".join(written for _, written in pairs)
    expected, at = [], 0
    for char, written in pairs:
        expected.append((char, at))
        at += len(written)
    found, _ = seen(document)
    view = next(view for view in found if view.encoding == encoding)
    read = [(char, view.origin(offset)) for offset, char in enumerate(view.text)]
    if encoding == "html":  # the standard maps C1 numbers to Windows-1252, and drops some
        assert [at for _, at in read] == [at for _, at in expected if at in {place for _, place in read}]
    else:
        assert read == expected


@given(
    st.lists(
        st.sampled_from([*"%&\\+=aQ\nux{}#;?", "%25", "&amp;", "\\u00e9", "\\ud83d", b64(VALUE), "\ud800"]), max_size=99
    ).map("".join)
)
def test_every_origin_is_in_the_document_and_in_order(document: str) -> None:
    for view in seen(document)[0]:
        origins = [view.origin(offset) for offset in range(len(view.text))]
        assert all(0 <= origin <= len(document) for origin in origins)


def test_what_a_view_shows_as_it_was_is_not_decoded_in_it_again() -> None:
    text = "a &amp; b\n{}\nc &amp; d"
    assert [encoding for encoding, _ in shown(text.format(r"\u0041BC"))] == ["html", "json"]
    assert [encoding for encoding, _ in shown(text.format(b64(VALUE)))] == ["base64", "html"]


@pytest.mark.parametrize("run", [b64("hunter2x"), b64("hunter2"), b64(VALUE), VALUE.encode().hex()])
def test_a_run_is_found_wherever_a_block_ends(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f" {'.' * 40}key: {run}\n"
    whole = shown(text)
    assert whole
    for size in range(1, len(text)):
        monkeypatch.setattr(runs, "_BLOCK", size)
        assert shown(text) == whole


# Bounds


def nested(size: int) -> str:
    data = b"key: hunter2hunter2 " * (size // 60)
    return base64.b64encode(base64.b64encode(base64.b64encode(data))).decode()[:size]


def bad_lines(size: int) -> str:
    """Lines that begin like text, and that do not become text when joined."""
    line = b64("hunter2hunter2hun")[:-4] + base64.b64encode(bytes([200]) * 31).decode()
    return f"{line[:64]}\n" * (size // 65)


def good_and_bad_lines(size: int) -> str:
    pair = b64("x" * 30) + "\n" + base64.b64encode(bytes([200]) * 30).decode() + "\n"
    return pair * (size // len(pair))


HOSTILE: dict[str, Callable[[int], str]] = {
    "percent signs": lambda size: "%" + "25" * (size // 2),
    "percent escapes": lambda size: "%25" * (size // 3),
    "percent in two bytes": lambda size: "%C3%A9" * (size // 6),
    "pluses": lambda size: "?a=" + "%20+" * (size // 4),
    "amp;": lambda size: "&" + "amp;" * (size // 4),
    "&amp;": lambda size: "&amp;" * (size // 5),
    "numbers": lambda size: "&#x41;" * (size // 6),
    "ampersands": lambda size: "&" * size,
    "long names": lambda size: ("&" + "a" * 31) * (size // 32),
    "backslashes": lambda size: "\\" * size,
    "newlines": lambda size: "\\n" * (size // 2),
    "surrogates": lambda size: "\\ud83d" * (size // 6),
    "one letter": lambda size: "a" * size,
    "base64": lambda size: b64(VALUE * (size // 40))[:size],
    "short base64": lambda size: "cGFzc3c= " * (size // 9),
    "words": lambda size: "cGFzc3dvcmQ9aHVu " * (size // 17),
    "no words": lambda size: "cGFzc3dvgGF0gGVu " * (size // 17),
    "padded": lambda size: "cGFzc3dvcmQ=" * (size // 12),
    "signs": lambda size: ("a/" * 120 + "c" * 16 + "-") * (size // 257),
    "hex": lambda size: "7061737377617373 " * (size // 17),
    "nested": nested,
    "bad lines": bad_lines,
    "good and bad lines": good_and_bad_lines,
    "everything": lambda size: r"\n&amp;%25QUFBQUFBQUFBQUFBQUFBQQ== " * (size // 35),
}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of characters that each decoding or searching step receives."""
    work: list[int] = []
    unpacked, spans, add = runs._unpacked, escapes.spans, Draft.add

    def _unpacked(run: str) -> bytes:
        work.append(len(run))
        return unpacked(run)

    def _spans(text: str, encoding: str) -> Iterator[tuple[int, int]]:
        work.append(len(text))
        return spans(text, encoding)

    def _add(draft: Draft, text: str, *place: int) -> None:
        work.append(len(text) + 1)
        add(draft, text, *place)

    monkeypatch.setattr(runs, "_unpacked", _unpacked)
    monkeypatch.setattr("worker.extract.layers.levels.spans", _spans)
    monkeypatch.setattr(Draft, "add", _add)
    return work


@pytest.mark.parametrize("build", HOSTILE.values(), ids=HOSTILE)
def test_the_work_grows_with_the_text_and_no_faster(
    build: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = build(MIB // 2)
    work = counted(monkeypatch)
    found, cuts = seen(text)
    assert cuts <= {Cut.BYTES}
    assert sum(work) < 16 * len(text)
    decoded = [sum(len(view.text) for view in found if (view._parent is not None) is deep) for deep in (False, True)]
    assert all(size <= max(LEAST, factor * len(text)) for size, factor in zip(decoded, FACTORS, strict=True))


@pytest.mark.full
@pytest.mark.parametrize("build", HOSTILE.values(), ids=HOSTILE)
def test_ten_mib_end_within_their_memory(build: Callable[[int], str]) -> None:
    text = build(10 * MIB)
    cuts: set[Cut] = set()
    tracemalloc.start()
    try:
        for _ in views(text, cuts, deadline=monotonic() + 2):
            pass
        assert tracemalloc.get_traced_memory()[1] < 24 * MIB
    finally:
        tracemalloc.stop()
    assert cuts <= {Cut.BYTES, Cut.TIME}


def test_what_more_is_encoded_than_may_be_decoded_is_said() -> None:
    text = HOSTILE["everything"](MIB)
    assert seen(text)[1] == {Cut.BYTES}


def test_the_deadline_is_kept() -> None:
    assert seen("%24" + b64(VALUE), seconds=-1) == ([], {Cut.TIME})
