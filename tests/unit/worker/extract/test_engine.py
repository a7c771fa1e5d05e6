"""The engine's rules over a text: the same matches in pieces and in threads, and within the time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mission.errors import SettingsError
from mission.model import Confidence, Cut
from tests.credentials import AWS_SECRET, GITHUB_TOKEN, SLACK_TOKEN
from worker.extract import engine
from worker.extract.engine import Match, RuleScanner


@pytest.fixture(scope="module")
def providers(rules_cache: Path) -> RuleScanner:
    return engine.load("provider", rules_cache)


def found(scanner: RuleScanner, text: str) -> list[Match]:
    cut: set[Cut] = set()
    matches = sorted(scanner.matches(text, time.monotonic() + 60, cut), key=lambda match: (match.start, match.category))
    assert not cut
    return matches


def test_a_providers_credential_is_found_with_its_place_in_characters(providers: RuleScanner) -> None:
    (match,) = found(providers, f"é🗝\nGITHUB_TOKEN={GITHUB_TOKEN}\n")
    assert (match.category, match.value, match.confidence) == ("github-pat", GITHUB_TOKEN, Confidence.HIGH)
    assert (match.start, match.end) == (16, 16 + len(GITHUB_TOKEN))


def test_a_part_of_a_credential_that_is_a_secret_by_itself_is_found(providers: RuleScanner) -> None:
    assert [match.category for match in found(providers, f"AWS_SECRET_ACCESS_KEY={AWS_SECRET}")] == [
        "aws-secret-access-key"
    ]


def test_a_part_that_is_a_name_is_no_finding(providers: RuleScanner) -> None:
    assert found(providers, "host: acme.snowflakecomputing.com") == []


def test_what_only_stands_for_a_credential_is_dropped_of_the_catalogs_finds_alone(
    providers: RuleScanner, tmp_path: Path, rules_cache: Path
) -> None:
    text = "curl -H 'Authorization: " + "Bearer YOUR_ACCESS_TOKEN' https://host.example.com/"
    assert found(providers, text) == []
    (rules := tmp_path / "own.toml").write_text("[[rules]]\nid = 'x'\ndescription = 'x'\nregex = 'Bearer (.{17})'\n")
    assert [match.value for match in found(engine.load("generic", rules_cache, [rules]), text)] == ["YOUR_ACCESS_TOKEN"]


def test_the_repr_of_a_match_does_not_show_its_value(providers: RuleScanner) -> None:
    assert GITHUB_TOKEN not in repr(found(providers, GITHUB_TOKEN))


PIECES = st.lists(
    st.one_of(
        st.sampled_from([GITHUB_TOKEN, SLACK_TOKEN, f"aws_secret_access_key = {AWS_SECRET}"]),
        st.text(st.sampled_from("aé🗝 \n=\"'\ud800"), max_size=40),
    ),
    max_size=30,
)


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(PIECES)
def test_a_text_in_pieces_gives_what_it_gives_whole(
    providers: RuleScanner, monkeypatch: pytest.MonkeyPatch, pieces: list[str]
) -> None:
    text = "\n".join(pieces)
    whole = found(providers, text)
    with monkeypatch.context() as small:
        small.setattr(engine, "PIECE_CHARACTERS", 700)
        small.setattr(engine, "OVERLAPS", 2)
        assert found(providers, text) == whole


def test_threads_find_what_one_finds(providers: RuleScanner) -> None:
    texts = [f"{number} token={GITHUB_TOKEN}\n" * (number + 1) for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: found(providers, text), texts)) == [found(providers, text) for text in texts]


def test_what_is_not_read_in_time_is_said(providers: RuleScanner) -> None:
    cut: set[Cut] = set()
    assert list(providers.matches(GITHUB_TOKEN, time.monotonic(), cut)) == []
    assert cut == {Cut.TIME}


class Slow:
    """An engine that finds each `x`; a piece of n bytes that contains `!` takes `seconds(n)`."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.rules = SimpleNamespace(cache_status="loaded")
        self._seconds = seconds

    def scan(self, data: bytes, timeout: float) -> list[Any]:
        if b"!" in data and self._seconds(len(data)) > timeout:
            raise TimeoutError
        return [found_at(match.start()) for match in re.finditer(b"x", data)]


def found_at(at: int) -> Any:
    place = {"start_offset": at, "end_offset": at + 1}
    return SimpleNamespace(rule_id="r", secret="x", visible=True, confidence="high", location=place)


def places(slow: Slow, text: str) -> tuple[list[int], set[Cut]]:
    cut: set[Cut] = set()
    scanner = RuleScanner("generic", cast("Any", slow), catalog=False)
    return [match.start for match in scanner.matches(text, time.monotonic() + 60, cut)], cut


TEXT = "x" + "." * (2 * engine.PIECE_CHARACTERS) + "!" + "." * (2 * engine.PIECE_CHARACTERS) + "x"


def test_what_stands_where_pieces_overlap_is_told_once() -> None:
    text = ("x" + "." * 999) * 700
    assert places(Slow(lambda size: 0), text) == (list(range(0, len(text), 1000)), set())


def test_a_piece_that_takes_too_long_costs_what_stands_near_and_is_said() -> None:
    near = len(TEXT) // 2 + 2
    text = TEXT[:near] + "x" + TEXT[near + 1 :]
    assert places(Slow(lambda size: 61), text) == ([0, len(text) - 1], {Cut.TIME})


def test_a_piece_that_takes_too_long_is_read_again_in_small_ones() -> None:
    seconds = {engine.PIECE_CHARACTERS: 61.0}
    assert places(Slow(lambda size: seconds.get(size, 0.0)), TEXT) == ([0, len(TEXT) - 1], set())


def test_no_piece_may_take_more_than_some_shares_of_the_time() -> None:
    most = 60 / (len(TEXT) / engine.PIECE_CHARACTERS)
    assert Cut.TIME in places(Slow(lambda size: 30.1), TEXT)[1]  # half of it
    many = TEXT * 20
    assert Cut.TIME in places(Slow(lambda size: most), many)[1]  # 20 times its share
    assert places(Slow(lambda size: most / 20), many)[1] == set()


def test_rules_come_compiled_from_the_cache_the_second_time_and_the_first_time_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (rules := tmp_path / "rules.toml").write_text("[[rules]]\nid = 'x'\ndescription = 'x'\nregex = 'x{9}'\n")
    caplog.set_level("INFO", "decoder.extract")
    assert [engine.load("generic", tmp_path / "cache", [rules]).cached for _ in range(2)] == [False, True]
    (line,) = caplog.records
    assert re.fullmatch(
        rf"compiled the rules of generic in \d+\.\d s: {tmp_path}/cache had no usable copy", line.getMessage()
    )
    assert line.__dict__["event.action"] == "rules-compiled"


def test_a_file_that_the_engine_does_not_take_is_refused(tmp_path: Path) -> None:
    (rules := tmp_path / "rules.toml").write_text("[[rules]]\nid = 'x'\nregex = '('\n")
    with pytest.raises(SettingsError, match="generic"):
        engine.load("generic", tmp_path, [rules])


def test_an_engine_that_fails_on_a_piece_costs_that_piece_and_nothing_of_the_text_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = "[[rules]]\nid = 'x'\ndescription = 'x'\nregex = 'sesame[0-9]'\nfilter = 'failsTokenEfficiency(1)'\n"
    (rules := tmp_path / "rules.toml").write_text(rule)
    cut: set[Cut] = set()
    assert list(engine.load("generic", tmp_path, [rules]).matches("sesame1", time.monotonic() + 9, cut)) == []
    assert cut == {Cut.ENGINE}
    assert "sesame" not in caplog.text
