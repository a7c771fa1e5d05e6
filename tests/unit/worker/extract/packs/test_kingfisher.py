"""Kingfisher's YAML: rules keep their meaning, network parts are removed, and keys that the engine would ignore are reported."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.unit.worker.extract.packs.engine import lint, loaded
from worker.extract.packs import load

RULE = """
rules:
  - name: Acme key
    id: acme.key
    pattern: '(?x) acme_key \\s* = \\s* ([A-Za-z0-9]{6,40})'
"""
MIXED = "q7Zk29LmX0pR"


def test_a_rule_finds_what_it_finds(tmp_path: Path) -> None:
    rules = loaded(tmp_path, RULE, "mine.yml")
    assert rules.scan(f"acme_key = {MIXED}") == {("acme.key", MIXED)}
    assert [(rule.id, rule.line, rule.description) for rule in rules.pack.rules] == [("acme.key", 3, "Acme key")]


def test_a_bare_list_is_a_pack_too_and_the_name_does_not_matter(tmp_path: Path) -> None:
    text = RULE.replace("rules:\n", "")
    assert loaded(tmp_path, text, "mine.toml").scan(f"acme_key = {MIXED}") == {("acme.key", MIXED)}


@pytest.mark.parametrize(
    ("more", "secret", "found"),
    [
        ("min_entropy: 3.0", "aaaaab", False),
        ("min_entropy: 3.0", MIXED, True),
        ("pattern_requirements: {min_digits: 3}", "abcdef12", False),
        ("pattern_requirements: {min_digits: 3}", "abcdef123", True),
        ("pattern_requirements: {ignore_if_contains: [example]}", "xyEXAMPLE12", False),
        ("visible: false", MIXED, False),
        ("confidence: low", MIXED, True),
    ],
)
def test_entropy_requirements_and_visibility_keep_their_meaning(
    tmp_path: Path, more: str, secret: str, *, found: bool
) -> None:
    assert bool(loaded(tmp_path, f"{RULE}    {more}\n", "mine.yml").scan(f"acme_key = {secret}")) is found


def test_what_a_rule_depends_on_is_named_as_the_engine_knows_it(tmp_path: Path) -> None:
    other = "  - {name: Account, id: acme.account, pattern: 'account-([0-9]{4})', visible: false}\n"
    depends = "    depends_on_rule: [null, {rule_id: acme.account, variable: ACCOUNT}]\n"
    rules = loaded(tmp_path, RULE + depends + other, "mine.yml")
    [dependency] = rules.rules.detail("custom.mine.acme.key")["depends_on_rule"]
    assert (dependency["rule_id"], dependency["variable"]) == ("custom.mine.acme.account", "ACCOUNT")
    assert rules.scan(f"acme_key = {MIXED} account-1234") == {("acme.key", MIXED)}


def test_a_pattern_over_several_lines_and_a_checksum_come_through(tmp_path: Path) -> None:
    text = """
rules:
  - name: Acme
    id: acme
    pattern: |
      (?x)
      \\b acme_
      (?P<BODY> [0-9]{4} ) (?P<SUM> [0-9a-f]{8} )  # é, and "quotes"
      \\b
    pattern_requirements:
      checksum:
        actual: {template: "{{ SUM }}", requires_capture: SUM}
        expected: "{{ BODY | crc32_hex: 8 }}"
"""
    rules = loaded(tmp_path, text, "mine.yml")
    assert rules.rules.detail("custom.mine.acme")["pattern_requirements"]["checksum"]["expected"] == (
        "{{ BODY | crc32_hex: 8 }}"
    )
    assert rules.scan("acme_1234deadbeef") == set()
    assert rules.scan(f"acme_1234{zlib.crc32(b'1234'):08x}")


def test_validation_and_revocation_do_not_come_to_the_engine(tmp_path: Path) -> None:
    request = "{type: Http, content: {request: {method: GET, url: 'https://acme.invalid/{{ TOKEN }}'}}}"
    rules = loaded(tmp_path, f"{RULE}    validation: {request}\n    revocation: {request}\n", "mine.yml")
    assert "acme.invalid" not in rules.pack.text()
    assert not any(rule["validation"] or rule["revocation"] for rule in rules.rules.metadata())
    assert [problem.reason.split(":")[0] for problem in rules.pack.left_out] == [
        "'revocation' of 1 rules",
        "'validation' of 1 rules",
    ]


def test_no_rule_of_a_pack_takes_the_place_of_one_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(RULE.replace("acme.key", "kingfisher.aws.1"))
    assert load(tmp_path / "mine.yml").rules[0].engine_id == "custom.mine.kingfisher.aws.1"


@pytest.mark.parametrize(
    ("text", "line", "rule", "reason"),
    [
        (f"{RULE}    patern: x\n", 3, "acme.key", "unknown key 'patern'"),
        (f"{RULE}    id: again\n", 3, "again", "'id' occurs twice"),
        (f"{RULE}    pattern_requirements: {{min_digit: 3}}\n", 3, "acme.key", "unknown key 'min_digit'"),
        (f"{RULE}    pattern_requirements: {{2024-01-01: 3}}\n", 3, "acme.key", "unknown key datetime.date"),
        (f"{RULE}    confidence: sure\n", 3, "acme.key", "low, medium or high"),
        (f"{RULE}    min_entropy: lots\n", 3, "acme.key", "'min_entropy' must be a number"),
        (f"{RULE}    depends_on_rule: [{{rule_id: b, variable: B}}]\n", 3, "acme.key", "the rule 'b'"),
        (RULE + RULE.partition("rules:\n")[2], 6, "acme.key", "an earlier rule has the same id"),
        (f"{RULE}  - acme\n", 6, "", "must be a table"),
        ("rules: []\n", 1, "", "has no rules"),
        ("rules:\n  - {id: 2024-13-99}\n", 1, "", "is not valid YAML"),
        (f"{RULE}  - [\n", 7, "", "is not valid YAML"),
        ("rules: &a\n  - *a\n", 2, "", "alias"),
        ("rules: " + "[" * 100_000 + "\n", 1, "", "nested deeper"),
        ("rules:\n  - !!python/object/apply:os.system ['true']\n", 2, "", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, line: int, rule: str, reason: str) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(text)
    problem = lint(file)[0]
    assert (problem.file, problem.line, problem.rule) == (file, line, rule)
    assert reason in problem.reason
