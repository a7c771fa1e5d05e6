"""Markers: which texts count as secrets, their positions, and linear time on every text."""

import re
import time
import tracemalloc
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.errors import MissionFailed
from mission.model import Secret
from worker.extract import MAX_SECRETS, Detectors, Extractor

MIB_10 = 10 * 1024 * 1024
SECONDS = 1.0
MARKER_PAIRS = [("{*", "*}"), ("<<", ">>"), ("[[", "]"), ("<", ">"), ("BEGIN", "END"), ("%", "%%"), ("((", "(*")]


def search(text: str, markers: tuple[str, str] = ("{*", "*}")) -> list[Secret]:
    return Extractor(Detectors(("marker",), markers)).search(text)


def found(text: str, markers: tuple[str, str] = ("{*", "*}")) -> list[tuple[str, str]]:
    return [(secret.category, secret.value) for secret in search(text, markers)]


def places(text: str) -> list[tuple[int, int]]:
    return [(secret.line, secret.column) for secret in search(text)]


def reference(text: str, opening: str, closing: str) -> list[Secret]:
    """A naive implementation of the rules, one character at a time."""
    secrets = []
    at = 0
    while at < len(text):
        if not text.startswith(opening, at):
            at += 1
            continue
        start = end = at + len(opening)
        while end < len(text) and not text.startswith((opening, closing), end):
            end += 1
        if not text.startswith(closing, end):
            at += 1
            continue
        content = text[start:end]
        if not content.strip():
            at += 1
            continue
        key, colon, rest = content.strip().partition(":")
        named = colon and rest != rest.lstrip() and re.fullmatch("[A-Za-z][A-Za-z0-9_.-]{0,63}", key, re.ASCII)
        category, value = (key, rest.strip()) if named else ("UNCLASSIFIED", content.strip())
        place = start + content.rstrip().rfind(value)
        before = text[:place].replace("\r\n", "\n").replace("\r", "\n")
        secrets.append(Secret("marker", category, value, before.count("\n") + 1, len(before) - before.rfind("\n")))
        at = end + len(closing)
    return secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("no markers, but { and * and *} and }", []),
        ("{* KEY: value *}", [("KEY", "value")]),
        ("{*KEY: value*}", [("KEY", "value")]),
        ("{* a value without a key *}", [("UNCLASSIFIED", "a value without a key")]),
        ("{* BROKEN: never closed … {* GOOD *}", [("UNCLASSIFIED", "GOOD")]),
        ("{* outer {* K: inner *} rest *}", [("K", "inner")]),
        ("{* a *}{* b *}{*c*}", [("UNCLASSIFIED", "a"), ("UNCLASSIFIED", "b"), ("UNCLASSIFIED", "c")]),
        ("{* same *} {* same *}", [("UNCLASSIFIED", "same"), ("UNCLASSIFIED", "same")]),
        ("{* never closed", []),
        ("never opened *} {* a *} *}", [("UNCLASSIFIED", "a")]),
        ("{**}", []),
        ("{* \t\r\n\u3000 *}", []),
        ("{**} x *}", []),
        ("{* {* *}", []),
        ("{*}", []),
        ("{*} a *}", [("UNCLASSIFIED", "} a")]),
        ("{*{*} a *}", [("UNCLASSIFIED", "} a")]),
        ("{***}", [("UNCLASSIFIED", "*")]),
        ("{{* a *}}", [("UNCLASSIFIED", "a")]),
        ("{* a } * b *}", [("UNCLASSIFIED", "a } * b")]),
        ("{* KEY: one\r\n  two\n *}", [("KEY", "one\r\n  two")]),
        ("{*\nKEY:\n value\n*}", [("KEY", "value")]),
        ("{* пароль и 密码 🗝 *}", [("UNCLASSIFIED", "пароль и 密码 🗝")]),
    ],
)
def test_text_between_markers_is_a_secret(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("db.main-PASSWORD_2: x", ("db.main-PASSWORD_2", "x")),
        ("K: a: b", ("K", "a: b")),
        ("K:\tx", ("K", "x")),
        ("K" * 64 + ": x", ("K" * 64, "x")),
        ("K" * 65 + ": x", ("UNCLASSIFIED", "K" * 65 + ": x")),
        ("KEY:value", ("UNCLASSIFIED", "KEY:value")),
        ("KEY : value", ("UNCLASSIFIED", "KEY : value")),
        ("KEY:", ("UNCLASSIFIED", "KEY:")),
        (": value", ("UNCLASSIFIED", ": value")),
        ("2FA: 123", ("UNCLASSIFIED", "2FA: 123")),
        ("two words: x", ("UNCLASSIFIED", "two words: x")),
        ("SCHLÜSSEL: x", ("UNCLASSIFIED", "SCHLÜSSEL: x")),
        ("https://host/path", ("UNCLASSIFIED", "https://host/path")),
        ("host:8080", ("UNCLASSIFIED", "host:8080")),
    ],
)
def test_a_key_is_a_short_ascii_name_then_colon_and_white_space(content: str, expected: tuple[str, str]) -> None:
    assert found(f"{{* {content} *}}") == [expected]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_counts_as_one(end: str) -> None:
    assert places(f"first{end}{end} {{* K: v *}}{end}{{*{end} w{end}x *}} {{* y *}}") == [(3, 8), (5, 2), (6, 9)]


def test_a_place_is_that_of_the_values_first_character_in_code_points() -> None:
    assert places("🗝é{* KEY:  value *} {*x*}") == [(1, 12), (1, 23)]


@pytest.mark.parametrize("markers", MARKER_PAIRS)
def test_markers_are_configurable(markers: tuple[str, str]) -> None:
    opening, closing = markers
    assert found(f"a {opening} K: v {closing} b", markers) == [("K", "v")]


def test_a_marker_may_hold_white_space() -> None:
    assert found("<\t\t> <\tK: v\t>", ("<\t", "\t>")) == [("K", "v")]


@given(st.data())
def test_it_agrees_with_a_slow_reading_of_the_rules(data: st.DataObject) -> None:
    opening, closing = data.draw(st.sampled_from(MARKER_PAIRS))
    pieces = [
        opening,
        closing,
        opening[0],
        closing[-1],
        "a",
        "K: ",
        "K:",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "é",
        "🗝",
        "\ufeff",
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=40)))
    assert search(text, (opening, closing)) == reference(text, opening, closing)


@given(st.text())
def test_any_text_between_markers_comes_back_trimmed(text: str) -> None:
    secrets = search("{*" + text + "*}")
    assert all(secret.value == secret.value.strip() != "" for secret in secrets)
    assert secrets == reference("{*" + text + "*}", "{*", "*}")


@pytest.mark.parametrize(
    "unit",
    ["{* ", "{**}", "{* *}", "{*}", "{*{", "{", "*", "*}", "a", "\r\n", "{* x", "{*" + " " * 60, "{*\r\né🗝"],
)
def test_ten_mebibytes_of_nothing_take_less_than_a_second(unit: str) -> None:
    text = unit * (MIB_10 // len(unit.encode()))
    started = time.process_time()
    assert search(text) == []
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(("start", "unit"), [("{*", "a"), ("{*", " "), ("{*", "{a*"), ("{* K:", " "), ("", "{* ")])
def test_ten_mebibytes_in_one_secret_take_less_than_a_second(start: str, unit: str) -> None:
    text = start + unit * (MIB_10 // len(unit)) + "{* end *}"[2 if unit != "{* " else 0 :]
    started = time.process_time()
    with suppress(MissionFailed):  # most of them are too long for a result
        assert len(search(text)) == 1
    assert time.process_time() - started < SECONDS


def test_as_many_secrets_as_allowed_spread_over_ten_mebibytes_take_less_than_a_second() -> None:
    text = ("{* K: v *}" + "line\n" * 207) * MAX_SECRETS
    started = time.process_time()
    secrets = search(text)
    assert time.process_time() - started < SECONDS
    assert (secrets[-1].line, secrets[-1].column) == ((MAX_SECRETS - 1) * 207 + 1, 7)
    assert len(secrets) == MAX_SECRETS


@pytest.mark.parametrize("unit", ["{*a*}", "{* ", "{a*", "\n"])
def test_memory_stays_bounded(unit: str) -> None:
    text = "{*" + unit * (MIB_10 // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(MissionFailed) if unit == "{*a*}" else nullcontext():
            search(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MIB_10


@pytest.mark.parametrize("blank", [65_535, 65_536, 65_537, 200_000])
def test_white_space_without_end_around_a_value_is_dropped(blank: int) -> None:
    space = " " * (blank - 1) + "\n"
    (secret,) = search(f"{{*{space}KEY:{space}a b{space}*}}")
    assert (secret.category, secret.value, secret.line, secret.column) == ("KEY", "a b", 3, 1)
