"""betterleaks' own additions: filters in the engine's syntax, components; no part that uses the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.worker.extract.packs.engine import lint, loaded
from worker.extract.packs import load
from worker.extract.packs.expressions import rewritten

RULE = """
[[rules]]
id = "acme"
description = "Acme"
regex = '''acme[_-]?key\\s*=\\s*([A-Za-z0-9]{6,40})'''
"""
MIXED = "q7Zk29LmX0pR"


def _rewritten(expression: str) -> str:
    problems: list[str] = []
    written = rewritten(expression, problems.append)
    assert problems == []
    return written


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ('get(attributes, "path", "")', '(attributes[ "path"] ??  "")'),
        ('get( get(finding["captures"], "a"), "b" )', '( (finding[`captures`][ "a"] ?? nil)[ "b" ] ?? nil)'),
        ('attributes["git.sha"] == ""', '(attributes[`git.sha`] ?? "") == ""'),
        ("attributes.path", '(attributes[`path`] ?? "")'),
        ("finding.secret contains 'get(x)'", "finding[`secret`] contains 'get(x)'"),
        ("`get(a, b)` // get(a, b)", "`get(a, b)` // get(a, b)"),
        ("let got = 1; forget.contains(got)", "let got = 1; forget.contains(got)"),
    ],
)
def test_what_the_engine_lacks_is_said_in_its_words(expression: str, written: str) -> None:
    assert _rewritten(expression) == written


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ('http.get("https://acme.invalid")', "no function `get`"),
        ('startsWithAny(finding["secret"], ["a"])', "no function `startsWithAny`"),
        ('finding["secret"].upper() == "A"', "no function `upper`"),
        ('finding["secret"] startsWith "a"', "no operator `startsWith`"),
        ('finding["commit"] == "a"', "a finding has no `commit`"),
        ("get(attributes)", "two or three values"),
        ('get(attributes, "a", "b", "c")', "two or three values"),
        ('getPath(finding, "a.b", "")', "no function `getPath`"),
        ("get(attributes, (1", "a parenthesis is not closed"),
    ],
)
def test_what_the_engine_cannot_do_is_said(tmp_path: Path, expression: str, problem: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"{RULE}filter = '''{expression}'''\n")
    [found, *_more] = lint(file)
    assert (found.file, found.line, found.rule) == (file, 3, "acme")
    assert problem in found.reason


def test_a_filter_discards_what_it_is_true_of(tmp_path: Path) -> None:
    rules = loaded(
        tmp_path, f"{RULE}filter = '''entropy(finding[\"secret\"]) <= 2 || finding.secret contains \"no\"'''\n"
    )
    assert rules.scan("acme_key = aaabbb") == set()
    assert rules.scan("acme_key = q7Zk29no0pR") == set()
    assert rules.scan(f"acme_key = {MIXED}") == {("acme", MIXED)}


@pytest.mark.parametrize("end", ["1", "a", "// a note"])
def test_a_filter_may_end_in_a_number_a_word_or_a_note(tmp_path: Path, end: str) -> None:
    """The engine's lexer would crash on the first two, and the third would swallow the text after it."""
    expression = f"size(finding.secret) == 12 && 1 == 1 {end}" if end[0] == "/" else f"let a = 1; 1 == {end}"
    assert loaded(tmp_path, f"filter = '''{expression}'''\n{RULE}").scan(f"acme_key = {MIXED}") == set()


@pytest.mark.parametrize(("path", "found"), [("", True), ("a/b.py", True), ("vendor/b.py", False)])
def test_the_prefilter_is_about_the_path(tmp_path: Path, path: str, *, found: bool) -> None:
    rules = f"prefilter = '''matchesAny(get(attributes, \"path\", \"\"), [`^vendor/`])'''\n{RULE}"
    assert bool(loaded(tmp_path, rules).scan(f"acme_key = {MIXED}", path)) is found


def test_the_filter_of_all_rules_and_the_rules_own_both_count(tmp_path: Path) -> None:
    second = RULE.replace('"acme"', '"second"')
    rules = loaded(
        tmp_path,
        f"filter = 'finding.secret contains \"all\"'\n{RULE}filter = 'finding.secret contains \"own\"'\n{second}",
    )
    assert rules.scan("acme_key = x7all99") == set()
    assert rules.scan("acme_key = x7own99") == {("second", "x7own99")}


def test_what_tokens_say_counts(tmp_path: Path) -> None:
    rules = loaded(tmp_path, f"{RULE}tokenEfficiency = true\n")
    assert rules.scan("acme_key = applicationconfiguration") == set()
    assert rules.scan(f"acme_key = {MIXED}") == {("acme", MIXED)}


@pytest.mark.parametrize(
    ("within", "text", "found"),
    [
        ("", "account-1234" + "\n" * 50 + "KEY", True),
        ("2L", "account-1234\n\nKEY", True),
        ("2L", "KEY\n\naccount-1234", True),
        ("2L", "account-1234\n\n\nKEY", False),
        ("-1L,+3L", "account-1234\n\nKEY", False),
        ("-1L,+3L", "KEY\n\n\naccount-1234", True),
        ("+3L", "account-1234\nKEY", False),
        ("1L,4C", "   account-1234\nKEY", True),
        ("1L,4C", "                      account-1234\nKEY", False),
    ],
)
def test_a_component_must_stand_near(tmp_path: Path, within: str, text: str, *, found: bool) -> None:
    component = f"components = [{{ id = 'account', within = '{within}' }}]\n"
    rules = f"{RULE}{component}[[rules]]\nid = 'account'\nregex = '''account-(\\d{{4}})'''\nskipReport = true\n"
    assert bool(loaded(tmp_path, rules).scan(text.replace("KEY", f"acme_key = {MIXED}"))) is found


def test_an_optional_component_may_be_absent(tmp_path: Path) -> None:
    rules = f"{RULE}components = [{{ id = 'b', optional = true }}]\n[[rules]]\nid = 'b'\nregex = 'bb[0-9]{{9}}'\n"
    assert loaded(tmp_path, rules).scan(f"acme_key = {MIXED}") == {("acme", MIXED)}


def test_what_asks_the_network_or_revokes_does_not_come_to_the_engine(tmp_path: Path) -> None:
    expression = "'http.get(\"https://acme.invalid/\" + finding.secret)'\n"
    rules = loaded(tmp_path, f"{RULE}validate = {expression}analyze = {expression}revoke = {expression}")
    assert "acme.invalid" not in rules.pack.text()
    assert not any(rule["validation"] or rule["revocation"] for rule in rules.rules.metadata())
    assert [problem.reason.split(":")[0] for problem in rules.pack.left_out] == [
        "'analyze' of 1 rules",
        "'revoke' of 1 rules",
        "'validate' of 1 rules",
    ]


def test_a_rules_confidence_is_the_engines(tmp_path: Path) -> None:
    rules = loaded(tmp_path, f"{RULE}confidence = 'High'\n")
    assert rules.pack.rules[0].confidence == "high"
    assert rules.rules.detail("custom.mine.acme")["confidence"] == "high"


def test_the_content_tells_the_dialect(tmp_path: Path) -> None:
    for text, dialect in ((RULE, "gitleaks"), (f"{RULE}filter = 'false '\n", "betterleaks")):
        (tmp_path / "mine.yml").write_text(text)
        assert load(tmp_path / "mine.yml").dialect.value == dialect
