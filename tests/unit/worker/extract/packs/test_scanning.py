"""A pack as a detector: its name, its categories, and its behaviour when time is up or a filter fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mission.errors import SettingsError
from mission.model import Confidence, Cut
from worker.extract.engine import Match
from worker.extract.packs import PackScanner, load, scanner
from worker.extract.packs import scanning as module

RULE = "[[rules]]\nid = 'acme'\nregex = '''acme-([a-z0-9]{8})'''\n"
COMPOSITE = f"{RULE}[[rules.required]]\nid = 'b'\n[[rules]]\nid = 'b'\nregex = '''bbb[0-9]+'''\n"


def _pack(folder: Path, text: str = RULE) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def _soon() -> float:
    return time.monotonic() + 60


def test_a_pack_is_a_detector_of_its_files_name(tmp_path: Path, rules_cache: Path) -> None:
    detector = scanner(load(_pack(tmp_path)), rules_cache)
    text = "é acme-a1b2c3d4"
    assert detector.detector == "pack:mine"
    assert list(detector.matches(text, _soon(), set())) == [Match("acme", "a1b2c3d4", 7, 15, Confidence.MEDIUM)]


def test_what_the_engine_does_not_take_is_a_setting_that_is_bad(tmp_path: Path, rules_cache: Path) -> None:
    pack = load(_pack(tmp_path, RULE + RULE.replace("acme", "b").replace("b-(", "(?=b)(")))
    with pytest.raises(SettingsError) as refusal:
        scanner(pack, rules_cache)
    (line,) = refusal.value.more
    assert "mine.toml:5: b: the engine's regexes have no look-ahead" in line


def test_a_filter_that_fails_as_it_is_evaluated_is_refused_before_any_document_comes(
    tmp_path: Path, rules_cache: Path
) -> None:
    pack = load(_pack(tmp_path, RULE + "filter = 'failsTokenEfficiency(1)'\n"))
    with pytest.raises(SettingsError) as refusal:
        scanner(pack, rules_cache)
    (line,) = refusal.value.more
    assert "mine.toml:2: acme: its filter fails" in line


def test_whether_its_rules_were_compiled_already_is_told(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    assert [scanner(load(_pack(tmp_path)), cache).cached for _turn in range(2)] == [False, True]


class _Ending:
    """An engine that reports matches until time is up."""

    cached = True

    def __init__(self, *categories: str) -> None:
        self._categories = categories

    def matches(self, text: str, until: float, cut: set[Cut]) -> Iterator[Match]:
        for at, category in enumerate(self._categories):
            yield Match(f"mine.{category}", "x", at, at + 1, Confidence.HIGH)
        cut.add(Cut.TIME)


def test_what_was_found_before_the_search_was_cut_is_told(tmp_path: Path) -> None:
    cut: set[Cut] = set()
    matches = PackScanner(load(_pack(tmp_path, COMPOSITE)), _Ending("acme", "b")).matches("words", 0, cut)
    assert [match.category for match in matches] == ["b", "acme"]
    assert cut == {Cut.TIME}


def test_more_of_composite_rules_than_a_result_may_hold_is_said_to_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 2)
    pack = load(_pack(tmp_path, COMPOSITE))
    cut: set[Cut] = set()
    assert len(list(PackScanner(pack, _Ending("acme", "acme", "b")).matches("words", 0, cut))) == 3
    assert cut == {Cut.TIME}
    list(PackScanner(pack, _Ending("acme", "acme", "acme", "b")).matches("words", 0, cut))
    assert cut == {Cut.TIME, Cut.SECRETS}
