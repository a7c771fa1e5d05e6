"""The trial names each rule that the engine rejects, and tests the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.extract.packs import load
from worker.extract.packs.trial import check, examples

GOOD = "[[rules]]\nid = 'good'\nregex = '''good-([a-z0-9]{8})'''\n\n"


def _rule(regex: str, more: str = "") -> str:
    return f"[[rules]]\nid = 'bad'\nregex = '''{regex}'''\n{more}\n"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (_rule("(?=a)bbb"), "no look-ahead or look-behind"),
        (_rule("(?<!a)bbb"), "no look-ahead or look-behind"),
        (_rule(r"(a)\1bb"), "no back-references"),
        (_rule(r"\Qa.b\Ecc"), r"no \Q…\E"),
        (_rule(r"\pLaaa"), "no Unicode classes"),
        (_rule("[é]aaa"), "no non-ASCII characters in a class"),
        (_rule("(?U)ab+c"), "no flag U"),
        (_rule("a*"), "the regex matches an empty text"),
        (_rule("(a"), "the engine rejects the regex"),
        (_rule("(?:a{300}){300}"), "the engine rejects the regex"),
        (_rule("aaa(b)", "secretGroup = 2"), "the regex does not have the group"),
        (_rule("aaab", "path = '''(a'''"), "rejects its 'path'"),
        (_rule("aaab", "[[rules.allowlists]]\nregexes = ['''(?=x)''']"), "rejects its filter or allowlist"),
        (_rule("aaab", "filter = '(1'"), "rejects its filter or allowlist"),
        (_rule("aaab", "filter = 'entropy(1) > 2'"), "its filter fails: expected string"),
    ],
)
def test_a_rule_that_the_engine_does_not_take_is_named(tmp_path: Path, rule: str, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD + rule + GOOD.replace("good", "more"))
    _pack, [problem] = check(file)
    assert (problem.file, problem.line, problem.rule) == (file, 6, "bad")
    assert reason in problem.reason
    assert "/trial" not in problem.reason


@pytest.mark.parametrize(
    "top", ["filter = '(1'", "filter = 'entropy(1) > 2'", "[allowlist]\nregexes = ['''(?=x)''']", "prefilter = '1 +'"]
)
def test_what_is_wrong_for_all_rules_is_said_once(tmp_path: Path, top: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"{top}\n{GOOD}{GOOD.replace('good', 'more')}")
    _pack, [problem] = check(file)
    assert (problem.line, problem.rule) == (1, "")
    assert "filter or allowlist of all rules" in problem.reason


@pytest.mark.parametrize("more", ["", "filter = 'entropy(1) > 2'"])
def test_a_filter_of_all_rules_is_not_blamed_for_one_of_them(tmp_path: Path, more: str) -> None:
    file = tmp_path / "mine.toml"
    bad = _rule("aaab", more) if more else _rule("(a")
    file.write_text(f"filter = 'finding.secret contains \"x\"'\n{GOOD}{bad}")
    assert [problem.rule for problem in check(file)[1]] == ["bad"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("pattern: '(b'", "rejects the regex"),
        ("pattern: bbbb, depends_on_rule: [{rule_id: a, variable: [7]}]", "rejects its 'depends_on_rule'"),
        *(
            (f"pattern: bbbb, pattern_requirements: {needs}", "rejects its 'pattern_requirements'")
            for needs in (
                "{min_digits: lots}",
                "{ignore_if_contains: 7}",
                "{checksum: {actual: {}}}",
                "{min_digits: 2024-01-01}",
            )
        ),
    ],
)
def test_yaml_that_the_engine_does_not_take_is_named(tmp_path: Path, rule: str, reason: str) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(f"rules:\n- {{name: A, id: a, pattern: aaab}}\n- {{name: B, id: b, {rule}}}\n")
    _pack, [problem] = check(file)
    assert (problem.line, problem.rule) == (3, "b")
    assert reason in problem.reason


def test_a_good_pack_has_no_problems_and_a_bad_file_no_pack(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    for _turn in range(2):
        assert check(file, cache) == (load(file), ())
    file.write_text("")
    pack, [problem] = check(file)
    assert (pack, problem.reason) == (None, "is empty")


def test_examples_that_do_not_hold_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        f"{GOOD}keywords = ['zebra']\nexamples = ['zebra good-12345678', 'good-12345678']\n"
        "negative_examples = ['zebra good-1', 'zebra good-87654321']\n"
        f"[[rules.required]]\nid = 'more'\n{GOOD.replace('good', 'more')}path = 'x'\nexamples = ['more-12345678']\n"
    )
    tested = examples(load(file))
    assert (tested.rules, tested.examples) == (2, 5)
    assert [(failure.line, failure.rule, failure.reason) for failure in tested.failures] == [
        (2, "good", "example 2 must match, but does not"),
        (2, "good", "negative example 2 must not match, but does"),
    ]


def test_kingfishers_examples_are_tried(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    rule = "{name: A, id: a, pattern: 'aaa-([0-9]{4})', visible: false, min_entropy: 1.5, "
    file.write_text(f"rules:\n- {rule}examples: [aaa-1234, aaa-1111], negative_examples: [aaa-2222, aaa-4321]}}\n")
    assert [failure.reason for failure in examples(load(file)).failures] == [
        "example 2 must match, but does not",
        "negative example 2 must not match, but does",
    ]
