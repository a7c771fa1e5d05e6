"""The prose linter: each rule's own examples, the passages of each kind of file, the command's exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci import prose
from ci.passages import is_read, passages

FILES = {
    "a.md": (
        "# What is where\n\nFirst line,\nsecond with `some code`.\n- an [item](https://example.com/who)\n"
        "\n| name | meaning |\n|---|---|\n| `x` | a cell |\n\n```sh\nnot read\n```\n\n    not read\n\nlast\n",
        {
            1: "# What is where",
            3: "First line,\nsecond with _.",
            5: "an item",
            7: "name meaning",
            9: "_ a cell",
            17: "last",
        },
    ),
    "a.py": (
        '"""A docstring\nof two lines.\n\nArgs:\n    name: of it.\n"""\n\nx = 1  # behind code\n# Above,\n# joined.\n'
        "y = f'The value of {x} is not one of these.'\nz = 'not a sentence'\n\n\ndef f() -> None:\n    '''Example:\n\n    \\b\n      f f\n    '''\n",
        {1: "A docstring\nof two lines.", 4: "Args:", 5: "name: of it.", 8: "behind code", 9: "Above,\njoined."}
        | {11: "The value of _ is not one of these.", 16: "Example:"},
    ),
    "a.yaml": (
        "# A comment\n# goes on.\nkey: 'a # b' # behind\nsummary: \"{{ $labels.x }}: it fails\"\nannotations:\n  description: >-\n"
        "    Folded over\n    lines.\n  runbook: no prose here\n",
        {1: "A comment\ngoes on.", 3: "behind", 4: "_: it fails", 7: "Folded over\nlines."},
    ),
    "a.toml": ('a = "b # c" # behind\n', {1: "behind"}),
    "a.sh": ("#!/bin/sh\n# Start it.\necho '# no comment'\n", {2: "Start it."}),
    "a.lua": ("-- Take one.\nlocal a = 1 -- and another\n", {1: "Take one.", 2: "and another"}),
    "Makefile": ("lint: dev ## check it all\n\t@run\n", {1: "check it all"}),
    "a.json": ('{\n  "title": "Success \\"rate\\", 1 h",\n  "expr": "a b c"\n}\n', {2: 'Success "rate", 1 h'}),
}


@pytest.mark.parametrize("rule", prose.RULES, ids=lambda rule: rule.bad)
def test_each_rule_finds_its_bad_example_and_passes_its_good_one(rule: prose.Rule) -> None:
    assert rule.find.search(rule.bad)
    assert not rule.find.search(rule.good)


@pytest.mark.parametrize("name", FILES)
def test_passages_have_the_text_and_the_line_of_each_kind_of_file(name: str) -> None:
    text, expected = FILES[name]
    found: dict[int, list[str]] = {}
    for passage in passages(Path(name), text):
        if passage.text.strip("-"):
            found.setdefault(passage.line, []).append(passage.text)
    assert {line: " ".join(texts) for line, texts in found.items()} == expected


def test_messages_can_be_left_out() -> None:
    assert passages(Path("a.py"), "x = 'This is a sentence of five.'\n", messages=False) == []


@pytest.mark.parametrize("name", ["a.png", "a.txt", "a.html", "LICENSE"])
def test_other_files_are_not_read(name: str) -> None:
    assert not is_read(Path(name))


def test_findings_name_file_line_and_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.md"
    bad.write_text(f"Fine.\n\nIt is read, and the\nversion stands\nin the the file.\n\n{'word ' * 41}.\n")
    assert prose.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'{bad}:4: "stands in": write "is in", "is stored in", "is listed in"'
    assert lines[1].startswith(f"{bad}:5: There's a lexical illusion in 'the the'")
    assert f"{bad}:7: a sentence of 41 words: at most 40" in lines


def test_a_file_that_is_not_valid_python_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("x = (\n")
    assert prose.main([str(tmp_path)]) == 1
    assert "broken.py:1: not valid Python: " in capsys.readouterr().out


def test_good_prose_exits_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.md"
    good.write_text("The worker retries. `a` `a` is code.\n")
    assert prose.main([str(good)]) == 0
    assert capsys.readouterr().out == "files: 1, findings: 0\n"
