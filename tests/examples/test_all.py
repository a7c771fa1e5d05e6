from __future__ import annotations

import ast
import re
import sys

import pytest

from tests.examples.conftest import EXAMPLES, Examples

PROGRAMS = sorted(
    str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.py") if "__main__" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_docstring_says_how_to_start_it_and_so_does_its_help(examples: Examples, name: str) -> None:
    told = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))) or ""
    assert re.search(rf"^    python examples/{name}", told, re.MULTILINE)
    shown = examples.run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert all(line in shown.stdout for line in told.split("\n\n")[2].splitlines())


def test_the_readme_names_each() -> None:
    told = set(re.findall(r"\]\(([\w/]+\.(?:py|js))\)", (EXAMPLES / "README.md").read_text()))
    assert told == {*PROGRAMS, *(file.name for file in EXAMPLES.glob("*.js"))}


def test_the_celery_client_knows_nothing_but_celery() -> None:
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", (EXAMPLES / "celery_client.py").read_text(), re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"celery"}
