"""`decoder rules`: the rules that find secrets, and checks of rule files before a worker loads them."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from worker.commands.rules import rules

main = Commands(commands=[rules])

GOOD = r"""
[[rules]]
id = "team-token"
description = "A token of the team's"
regex = '''\bteam_[0-9a-f]{16}\b'''
keywords = ["team_"]
entropy = 2.5
examples = ["x team_0123456789abcdef"]
negative_examples = ["team_aaaaaaaaaaaaaaaa"]
"""
BAD = """
[[rules]]
id = "one"
regex = "one"

[[rules]]
id = "two"
regexx = "two"
"""


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rules_cache: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DECODER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DECODER_RULES_CACHE", str(rules_cache))
    monkeypatch.chdir(tmp_path)
    Path("team.toml").write_text(GOOD)
    Path("bad.toml").write_text(BAD)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["rules", *args])


def test_list_prints_the_rules_with_a_text() -> None:
    rows = [json.loads(line) for line in run("list", "--json", "GitHub-").stdout.splitlines()]
    assert "github-pat" in [row["id"] for row in rows]
    assert {row["detector"] for row in rows} == {"provider"}
    assert set(rows[0]) == {"id", "detector", "confidence", "description"}
    assert len(rows) < 20
    assert run("list", "github-pat").stdout.splitlines()[1].split()[:3] == ["github-pat", "provider", "high"]


def test_list_tells_that_there_is_none() -> None:
    result = run("list", "no such text")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no matching rule\n", 0)


def test_the_detectors_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_DETECTORS", "marker")
    monkeypatch.setenv("DECODER_RULES", "team.toml")
    rows = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [(row["id"], row["detector"]) for row in rows] == [("team-token", "pack:team")]


def test_show_prints_one_rule_with_what_discards_a_finding() -> None:
    shown = run("show", "github-pat").stdout
    assert "regex          ghp_" in shown
    assert "discarded if" in shown
    assert "entropy(" in shown


def test_show_prints_a_pack_s_rule_with_its_keywords_and_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_RULES", "team.toml")
    rule = json.loads(run("show", "--json", "team-token").stdout)
    assert rule["keywords"] == ["team_"]
    assert rule["examples"] == ["x team_0123456789abcdef"]
    assert "entropy(" in rule["filter"]


def test_no_part_of_a_rule_that_would_ask_a_service_is_shown() -> None:
    for name in ("github-pat", "slack-bot-token"):
        shown = run("show", "--json", name).stdout
        assert "http" not in shown.replace("https://hooks", "")
        assert not {"validation", "revocation"} & set(json.loads(shown))


def test_show_refuses_what_there_is_not() -> None:
    result = run("show", "no\x1bne")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no rule ")
    assert "\x1b" not in result.output


def test_check_says_file_line_rule_and_reason() -> None:
    result = run("check", "team.toml", "bad.toml")
    said = result.stdout.splitlines()
    assert said[0].startswith("team.toml: 1 rule in ")
    assert "bad.toml:7: two: unknown key 'regexx'" in said
    assert result.exit_code == 1


def test_check_is_content_with_a_good_file() -> None:
    assert run("check", "team.toml").exit_code == 0


def test_check_in_json_has_the_same_in_fields() -> None:
    first = json.loads(run("check", "--json", "bad.toml").stdout.splitlines()[0])
    assert first == {"file": "bad.toml", "line": 7, "rule": "two", "reason": "unknown key 'regexx'"}


def test_a_file_that_cannot_be_read_is_told_without_a_line() -> None:
    Path("folder.toml").mkdir()
    assert run("check", "none.toml", "folder.toml").stdout.splitlines() == [
        "none.toml: cannot be read: No such file or directory",
        "folder.toml: is not a regular file",
    ]
    assert json.loads(run("check", "--json", "none.toml").stdout)["line"] is None


@pytest.mark.parametrize("variable", ["bad.toml", "team.toml,bad.toml"])
def test_a_bad_file_among_the_rules_is_told_whole(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("DECODER_RULES", variable)
    result = run("list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[1:] == [
        "bad.toml:7: two: unknown key 'regexx'",
        "bad.toml:7: two: has neither a regex nor a path",
    ]


def test_test_tries_the_examples() -> None:
    result = run("test", "team.toml")
    assert result.stdout == "team.toml: 2 of 2 examples pass; 1 of 1 rules have examples\n"
    assert result.exit_code == 0


def test_test_tells_the_examples_that_do_not_hold() -> None:
    Path("team.toml").write_text(GOOD.replace("team_aaaaaaaaaaaaaaaa", "team_0123456789abcdef"))
    result = run("test", "team.toml")
    assert result.stdout.splitlines() == [
        "team.toml:3: team-token: negative example 1 must not match, but does",
        "team.toml: 1 of 2 examples pass; 1 of 1 rules have examples",
    ]
    assert result.exit_code == 1


def test_test_refuses_a_file_with_something_wrong() -> None:
    result = run("test", "bad.toml", "missing.toml")
    assert "bad.toml:7: two: unknown key 'regexx'" in result.stdout
    assert "missing.toml" in result.stdout
    assert result.exit_code == 1
