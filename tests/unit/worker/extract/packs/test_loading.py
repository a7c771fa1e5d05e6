"""A bad pack is refused as a whole and at once, with the position and the reason, and without a traceback."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.extract.packs.engine import lint
from worker.extract.packs import PackRefused, load, load_all
from worker.extract.packs.source import MAX_BYTES

RULE = "[[rules]]\nid = 'acme'\nregex = '''acme-([a-z0-9]{8})'''\n"


def _lint(folder: Path, text: str | bytes, name: str = "mine.toml") -> list[tuple[int | None, str, str]]:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return [(problem.line, problem.rule, problem.reason) for problem in lint(file)]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (b"", 1, "is empty"),
        (b" \n\n", 1, "is empty"),
        (b"[[rules]]\nid = 'caf\xe9'\n", 2, "is not UTF-8"),
        (b"hello there", 1, "is not a rule pack"),
        (b"\n" * 4_000_000 + b"hello", 1, "is not a rule pack"),
        (b"{" + b"\n" * 4_000_000 + b"hello", 1, "is not a rule pack"),
        (b"- " * 1_000_000, 1, "nested deeper"),
        (b"[[rules]]\nid = 'a\n", 2, "is not valid TOML"),
        (b"a = 1\na = 2\n", 2, "is not valid TOML"),
        (b"title = 'x'\n", 1, "has no rules"),
        (b"rules = 7\n", 1, "'rules' must be a list"),
        (b"rules = [7]\n", 1, "must be a table"),
        (b"x = " + b"[" * 100_000, 1, "is not valid TOML"),
    ],
)
def test_what_is_no_pack_is_refused(tmp_path: Path, text: bytes, line: int, reason: str) -> None:
    [(found_line, rule, found), *_more] = _lint(tmp_path, text)
    assert (found_line, rule) == (line, "")
    assert reason in found


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    assert [problem.reason for problem in lint(file)] == ["is larger than 8 MiB"]


def test_a_folder_a_pipe_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    reasons = [lint(tmp_path / name)[0].reason for name in ("folder.toml", "pipe.toml", "none.toml")]
    assert reasons == ["is not a regular file", "is not a regular file", "cannot be read: No such file or directory"]


@pytest.mark.parametrize("name", ["a b.toml", "ü.toml", "x" * 65 + ".toml", "-.toml", "a\n.toml"])
def test_a_name_that_a_detector_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    assert "named after its file" in _lint(tmp_path, RULE, name)[0][2]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("regexp = 'x'", "unknown key 'regexp'"),
        ("keywords = 'x'", "'keywords' must be a list of texts"),
        ("keywords = [1]", "'keywords' must be a list of texts"),
        ("entropy = 'high'", "'entropy' must be a number"),
        ("entropy = -1", "'entropy' must be a number from 0 upwards"),
        ("entropy = nan", "'entropy' must be a number from 0 upwards"),
        ("entropy = true", "'entropy' must be a number from 0 upwards"),
        ("secretGroup = 1.5", "'secretgroup' must be a whole number"),
        ("secretGroup = -1", "'secretgroup' must be a whole number"),
        ("skipReport = 1", "'skipreport' must be true or false"),
        ("confidence = 'sure'", "low, medium or high, not 'sure'"),
        ("REGEX = 'x'", "'REGEX' occurs twice"),
        ("[[rules.allowlists]]", "needs one of regexes, stopwords, paths or commits"),
        ("[[rules.allowlists]]\nregex = ['x']", "allowlist: unknown key 'regex'"),
        ("[[rules.allowlists]]\nregexes = ['x']\ncondition = 'NOT'", "'condition' must be AND or OR"),
        ("[[rules.allowlists]]\nregexes = ['x']\nregexTarget = 'word'", "'regexTarget' must be secret, match or line"),
        ("[rules.allowlist]\nregexes = ['x']\n[[rules.allowlists]]\nregexes = ['x']", "accepts only one of them"),
        ("[[rules.required]]\nid = 'b'", "requires the rule 'b', which does not exist"),
        ("[[rules.required]]\nid = 'acme'\nwithin = 3", "required: unknown key 'within'"),
        ("components = [{ id = 'acme', within = 'near' }]", "'within' is a distance such as `5L`"),
    ],
)
def test_what_is_wrong_in_a_rule_is_said_with_its_line(tmp_path: Path, more: str, reason: str) -> None:
    [(line, rule, found), *_more] = _lint(tmp_path, f"title = 'mine'\n{RULE}{more}\n")
    assert (line, rule) == (3, "acme")
    assert reason in found


@pytest.mark.parametrize(
    ("text", "line", "rule", "reason"),
    [
        (f"titel = 'x'\n{RULE}", 1, "", "unknown key 'titel'"),
        (f"[extend]\nuseDefault = true\n{RULE}", 1, "", "gitleaks' own rules, which are not included"),
        (f"[extend]\npath = 'other.toml'\n{RULE}", 1, "", "add that file as a separate pack"),
        (f"{RULE}[[allowlists]]\ntargetRules = ['b']\nregexes = ['x']\n", 1, "", "there is no rule 'b'"),
        (f"{RULE}\n{RULE}", 6, "acme", "an earlier rule has the same id"),
        ("[[rules]]\nregex = 'aaa'\n", 1, "", "a rule has no id"),
        ("[[rules]]\nid = 'acme'\npath = 'x'\n", 1, "", "no rule that searches documents"),
        ('[[rules]]\nid = "a\\u001b[2J"\nregex = "aaa"\n', 2, "a\x1b[2J", "at most 128 printable characters"),
        ("[[rules]]\nid = 'acme'\n", 2, "acme", "neither a regex nor a path"),
        ("rules = [\n {id = 'a', regex = 'aaa'},\n {id = 'b', regexp = 'bbb', regex = 'b'}]\n", 3, "b", "'regexp'"),
    ],
)
def test_what_is_wrong_in_a_pack_is_said(tmp_path: Path, text: str, line: int, rule: str, reason: str) -> None:
    [(found_line, found_rule, found)] = _lint(tmp_path, text)
    assert (found_line, found_rule) == (line, rule)
    assert reason in found


def test_everything_that_is_wrong_is_said_at_once_and_reads_as_one_line_each(tmp_path: Path) -> None:
    file, other = tmp_path / "mine.toml", tmp_path / "other.toml"
    file.write_text(f"{RULE}entropy = 'x'\nregexp = 'y'\n")
    other.write_text("")
    with pytest.raises(PackRefused) as refusal:
        load_all([file, other])
    assert refusal.value.more == (
        f"{file}:2: acme: unknown key 'regexp'",
        f"{file}:2: acme: 'entropy' must be a number",
        f"{other}:1: is empty",
    )


def test_two_packs_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "mine.toml", tmp_path / "b" / ".mine.yml"]
    for file in files:
        file.parent.mkdir()
        file.write_text(RULE)
    with pytest.raises(PackRefused) as refusal:
        load_all(files)
    assert f"has the same name as {files[0]}: rename one" in refusal.value.more[0]
    assert [pack.name for pack in load_all(files[:1])] == ["mine"]


def test_a_rule_of_a_path_alone_and_commits_are_left_out_and_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"{RULE}[[rules.allowlists]]\ncommits = ['abc']\n[[rules]]\nid = 'key-file'\npath = '\\.p12$'\n")
    pack = load(file)
    assert [rule.id for rule in pack.rules] == ["acme"]
    assert [(left.line, left.rule) for left in pack.left_out] == [(2, "acme"), (7, "key-file")]
    assert "only a path" in pack.left_out[1].reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_more_than_a_refusal(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    for prefix in (b"", b"rules:\n - ", b"[[rules]]\nid='a'\n", b"filter='''"):
        file.write_bytes(prefix + raw)
        assert all(problem.reason for problem in lint(file))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_value_of_any_key_makes_more_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    keys = [
        "name",
        "id",
        "pattern",
        "min_entropy",
        "examples",
        "visible",
        "pattern_requirements",
        "depends_on_rule",
        "validation",
    ]
    rules = data.draw(st.lists(st.dictionaries(st.sampled_from(keys), _VALUES) | _VALUES, max_size=3) | _VALUES)
    file = tmp_path_factory.getbasetemp() / "fuzzed.yml"
    file.write_text(json.dumps({"rules": rules}, ensure_ascii=False).encode("utf-8", "replace").decode())
    assert all(problem.reason for problem in lint(file))


def test_what_the_engine_loads_is_toml_with_all_rules(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RULE + RULE.replace("acme", "bcme"))
    written = tomllib.loads(load(tmp_path / "mine.toml").text())
    assert [rule["id"] for rule in written["rules"]] == ["custom.mine.acme", "custom.mine.bcme"]
