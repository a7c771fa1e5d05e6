"""The project's own rules for requirements, Makefile targets and packages. import-linter checks the imports."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
LOCKS = [*REQUIREMENTS, ROOT / "ci" / "requirements.txt"]
# A pin: its name, its extras, its version.
PIN = re.compile(r"^([\w.-]+)(\[[\w,.-]+\])?==(\S+)", re.MULTILINE)
PACKAGES = {"mission", "producer", "worker"}


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_requirements_hold_hashes_and_neither_url_nor_path(file: Path) -> None:
    text = file.read_text()
    pins = re.findall(r"^[a-z0-9].*$", text, re.MULTILINE | re.IGNORECASE)
    assert pins
    assert all(re.match(PIN.pattern + r" .*\\$", pin) for pin in pins)
    assert len(re.findall(r"(?:^[a-z0-9].*\n)(?: +--hash=sha256:[0-9a-f]{64})", text, re.MULTILINE)) == len(pins)
    assert "://" not in text
    assert not re.search(r"^-|@ |/(home|tmp|opt|root)/", text, re.MULTILINE)


def test_all_requirements_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for file in REQUIREMENTS:
        for name, _extras, version in PIN.findall(file.read_text()):
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_requirements_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "base.txt": project["dependencies"],
        "worker.txt": project["dependencies"] + extras["worker"],
        "image.txt": project["dependencies"] + extras["worker"] + extras["flower"],
        "run.txt": project["dependencies"] + extras["worker"] + extras["embedded"],
        "up.txt": project["dependencies"] + extras["worker"] + extras["embedded"] + extras["flower"],
        "dev.txt": project["dependencies"] + [item for items in extras.values() for item in items],
    }
    assert {file.name for file in REQUIREMENTS} == set(wanted)
    for file in REQUIREMENTS:
        pins = {name: extras for name, extras, _version in PIN.findall(file.read_text())}
        asked = dict(re.match(r"([\w.-]+)(\[\w+\])?", item.lower()).groups("") for item in wanted[file.name])  # type: ignore[union-attr, misc]  # fails here if one is no requirement
        asked.pop("mission-decoder", None)
        assert asked.keys() <= pins.keys(), file.name
        # If only `name` is pinned, pip treats `name[extra]` as unpinned as soon as there is a newer release.
        assert {name: extras for name, extras in asked.items() if extras and extras not in pins[name]} == {}, file.name


def test_make_lists_every_target_that_it_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]  # fails here if it is missing
    listed = subprocess.run(["make"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert set(re.findall(r"^  make ([\w-]+) +\S", listed, re.MULTILINE)) == targets


def test_make_refuses_an_interpreter_that_does_not_work(tmp_path: Path) -> None:
    command = ["make", "dev", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert "error: no working Python 3.11 or newer" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_the_other_pythons_stand_ins_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.13").chmod(0o755)
    (tmp_path / "python3.12").symlink_to(sys.executable)
    command = ["make", "--dry-run", "dev", f"VENV={tmp_path / 'venv'}"]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=True).stdout
    assert '"python3.12" -m venv' in shown


def test_every_package_and_its_data_is_part_of_the_distribution() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(file.parent.relative_to(ROOT).parts) for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    }
    typed = {package for package in PACKAGES if (ROOT / package / "py.typed").is_file()}
    assert set(setuptools["packages"]) == folders
    assert typed == PACKAGES == {name for name, data in setuptools["package-data"].items() if "py.typed" in data}
