"""The configuration of editors and pre-commit agrees with the tools and with the existing files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HOOKS: list[dict[str, Any]] = [
    hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
]


def tracked() -> list[Path]:
    shown = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return [ROOT / name for name in shown.splitlines() if (ROOT / name).is_file()]


def test_pre_commit_fetches_nothing() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert {hook["language"] for hook in HOOKS} == {"system"}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_calls_a_tool_that_make_dev_installs(hook: dict[str, Any]) -> None:
    folder, _, tool = hook["entry"].split()[0].rpartition("/")
    assert folder == ".venv/bin"
    assert (Path(sys.executable).parent / tool).exists()


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if "files" in hook], ids=lambda hook: hook["id"])
def test_a_hook_for_certain_files_is_for_files_that_there_are(hook: dict[str, Any]) -> None:
    alternatives = [
        str(path.relative_to(ROOT)) for path in tracked() if re.search(hook["files"], str(path.relative_to(ROOT)))
    ]
    module = hook["entry"].split()[-1].replace(".", "/") + ".py"
    assert module in alternatives
    assert any(name.endswith(".md") for name in alternatives)


def test_the_hooks_run_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    linted, hooked = (
        set(re.findall(r"/bin/([a-z-]+(?: [a-z]+)?)", text))
        for text in (recipe[1], str([hook["entry"] for hook in HOOKS]))
    )
    assert linted
    assert linted <= hooked


def test_editors_break_lines_where_the_formatter_does() -> None:
    editor = ConfigParser()
    editor.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert editor["*"]["max_line_length"] == str(ruff["line-length"])
    assert (editor["*.py"]["indent_size"], editor["Makefile"]["indent_style"]) == ("4", "tab")


def test_files_are_as_editors_are_told_to_keep_them() -> None:
    wrong = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content:
            continue  # a picture
        tabs = (
            not path.match("*.go")
            and path.name not in ("Makefile", "go.mod")
            and re.search(rb"^ *\t", content, re.MULTILINE)
        )
        if content and (not content.endswith(b"\n") or b"\r\n" in content or re.search(rb"[ \t]\n", content) or tabs):
            wrong.append(path.name)
    assert wrong == []
