"""The search of a document: which detector reports overlapping matches, what is reported once, and what the limits cut."""

from __future__ import annotations

import base64
import gzip
import time
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest

from mission.model import Confidence, Cut, Extraction, Secret
from tests.credentials import AWS_SECRET, GITHUB_TOKEN, PASSWORD, SLACK_TOKEN
from worker.extract import Detectors, Extractor, extractor


@pytest.fixture(scope="module")
def everything(rules_cache: Path) -> Extractor:
    return Extractor(Detectors(cache=rules_cache))


def told(found: Extraction) -> list[tuple[str, str, int, int]]:
    return [(secret.detector, secret.value, secret.line, secret.column) for secret in found]


def test_each_detector_tells_what_it_finds(everything: Extractor) -> None:
    text = f"{{* KEY: marked *}}\ntoken: {GITHUB_TOKEN}\n  password: {PASSWORD}\n"
    assert told(everything.search(text)) == [
        ("marker", "marked", 1, 9),
        ("provider", GITHUB_TOKEN, 2, 8),
        ("generic", PASSWORD, 3, 13),
    ]


def test_what_stands_between_markers_is_the_markers_alone(everything: Extractor) -> None:
    assert told(everything.search(f"{{* TOKEN: {GITHUB_TOKEN} *}}")) == [("marker", GITHUB_TOKEN, 1, 11)]


def test_who_ranks_higher_tells_a_place_that_another_saw_decoded(everything: Extractor, tmp_path: Path) -> None:
    text = "<p>password = &quot;kR7pl4xQz9&amp;1&quot;</p>"
    (secret,) = everything.search(text)
    assert (secret.detector, secret.encoding) == ("generic", "html")
    (pack := tmp_path / "mine.toml").write_text("[[rules]]\nid = 'x'\nregex = 'kR7[a-zA-Z0-9]+&amp;1'\n")
    (secret,) = Extractor(Detectors(rules=(pack,), cache=everything.detectors.cache)).search(text)
    assert (secret.detector, secret.encoding) == ("pack:mine", "")


def test_a_provider_is_more_exact_than_a_generic_rule(everything: Extractor) -> None:
    assert told(everything.search(f'github_token = "{GITHUB_TOKEN}"')) == [("provider", GITHUB_TOKEN, 1, 17)]


def test_of_two_rules_the_surer_one_tells_a_place(everything: Extractor) -> None:
    (secret,) = everything.search(f"const apiKey = '{AWS_SECRET[:32]}';")
    assert (secret.category, secret.confidence) == ("secret", Confidence.MEDIUM)


def test_a_value_at_several_places_is_told_once_by_rules_and_each_time_by_markers(everything: Extractor) -> None:
    found = everything.search(f"x\n{GITHUB_TOKEN}\n{GITHUB_TOKEN}\n{{* a *}}{{* a *}}")
    assert [(secret.detector, secret.line, secret.count) for secret in found] == [
        ("marker", 4, 1),
        ("marker", 4, 1),
        ("provider", 2, 2),
    ]


@pytest.mark.parametrize(
    ("encoded", "encoding"),
    [
        (base64.b64encode(f"token={GITHUB_TOKEN}".encode()).decode(), "base64"),
        (f"token={GITHUB_TOKEN}".encode().hex(), "hex"),
        (f'<a title="token={escape(chr(34))}{GITHUB_TOKEN.replace("_", "&#95;")}{escape(chr(34))}">', "html"),
        (quote(f"token={GITHUB_TOKEN}&").replace("_", "%5F"), "percent"),
        ('"token=' + GITHUB_TOKEN.replace("_", "\\u005f") + '"', "json"),
    ],
)
def test_what_is_encoded_is_found_where_it_is_encoded(everything: Extractor, encoded: str, encoding: str) -> None:
    (secret,) = everything.search(f"first\nsecond {encoded}\n")
    assert (secret.value, secret.encoding, secret.line) == (GITHUB_TOKEN, encoding, 2)


@pytest.mark.parametrize("password", ["ab%41cd9x", "s2e@z%8Ll*%24", "q9$w%21e"])
def test_what_no_encoder_writes_is_told_as_it_stands(everything: Extractor, password: str) -> None:
    (secret,) = everything.search(f'password="{password}"')
    assert (secret.value, secret.encoding) == (password, "")


def test_members_of_an_archive_are_searched_and_named(everything: Extractor) -> None:
    (secret,) = everything.extract(gzip.compress(f"a\ntoken={GITHUB_TOKEN}".encode()))
    assert (secret.value, secret.line, bool(secret.path)) == (GITHUB_TOKEN, 2, True)


def test_a_marked_secret_in_an_archive_is_named_by_its_member_too(everything: Extractor) -> None:
    (secret,) = everything.extract(gzip.compress(b"{* KEY: a *}"))
    assert (secret.detector, secret.path) == ("marker", "gzip")


def test_a_detector_that_is_off_finds_nothing(rules_cache: Path) -> None:
    text = f"{{* a *}} {GITHUB_TOKEN} password={PASSWORD}"
    for name in ("marker", "provider", "generic"):
        found = Extractor(Detectors((name,), cache=rules_cache)).search(text)
        assert {secret.detector for secret in found} == {name}


def test_without_the_engine_markers_are_found_and_the_log_says_what_is_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.extract.detectors.engine_installed", lambda: False)
    found = Extractor().search(f"{{* a *}} {GITHUB_TOKEN}")
    assert [secret.detector for secret in found] == ["marker"]
    assert "off: provider, generic" in caplog.text


def test_what_time_does_not_suffice_for_is_said(everything: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "BUDGET_SECONDS", 0.0)
    found = everything.search(f"{{* a *}} {GITHUB_TOKEN}")
    assert told(found) == [("marker", "a", 1, 4)]
    assert found.cut == {Cut.TIME}
    assert not found.complete


def test_the_deadline_ends_a_search_that_has_budget_left(everything: Extractor) -> None:
    assert everything.search("x", time.monotonic()).cut == {Cut.TIME}


def test_more_finds_than_are_looked_at_are_said(everything: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor, "MAX_HITS", 2)
    found = everything.search(f"{GITHUB_TOKEN}\n" * 3)
    assert found[0].count == 2
    assert found.cut == {Cut.SECRETS}


def test_rules_fill_what_room_markers_leave_and_no_more(rules_cache: Path) -> None:
    small = Extractor(Detectors(cache=rules_cache), 1200)
    found = small.search("{* " + "x" * 900 + f" *}} {GITHUB_TOKEN} {SLACK_TOKEN}")
    assert [secret.detector for secret in found] == ["marker", "provider"]
    assert found.cut == {Cut.BYTES}


def test_threads_find_what_one_finds(everything: Extractor) -> None:
    texts = [f"{{* {number} *}} token={GITHUB_TOKEN} password={PASSWORD}\n" * (number + 1) for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(everything.search, texts)) == [everything.search(text) for text in texts]


def test_confidence_is_certain_between_markers_and_the_rules_elsewhere(everything: Extractor) -> None:
    marked, provided = everything.search(f"{{* a *}} {GITHUB_TOKEN}")
    assert (marked.confidence, provided.confidence) == (Confidence.CERTAIN, Confidence.HIGH)
    assert isinstance(marked, Secret)
