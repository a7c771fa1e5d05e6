"""The Dockerfile's text."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CORPORA, unavailable
from tests.documents.document import blocks

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("file", ["Dockerfile", "ci/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        unavailable("hadolint is not here: the extra `dev` brings it for Linux on x86_64")
    shown = subprocess.run([hadolint, ROOT / file], capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.returncode) == ("", 0)


def test_no_stage_builds_on_anything_but_the_argument() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE_IMAGE}"}
    assert re.search(r"^ARG BASE_IMAGE$", DOCKERFILE, re.MULTILINE)


def test_the_pipeline_and_both_ways_by_hand_build_the_same() -> None:
    by_hand = {block.tag: block for block in blocks(ROOT / "docs/image.md")}
    typed = {tag: "\n".join(command.line for command in by_hand[tag].commands) for tag in ("buildah", "docker")}
    built = (ROOT / "ci/build-image.sh").read_text().replace("$CI_COMMIT_SHA", "$(git rev-parse HEAD)")
    arguments = [re.findall(r'--build-arg "(\w+=[^"]*)"', text) for text in (built, *typed.values())]
    assert arguments[0] == arguments[1] == arguments[2]
    assert {argument.partition("=")[0] for argument in arguments[0]} == set(
        re.findall(r"^ARG (\w+)$", DOCKERFILE, re.MULTILINE)
    )
    (where_the_version_is,) = re.findall(r"^version=.*$", built, re.MULTILINE)
    assert [text.splitlines()[0] for text in typed.values()] == [where_the_version_is] * 2
    assert '--format oci --timestamp "$(git log -1 --format=%ct)"' in built
    assert '--format oci --timestamp "$(git log -1 --format=%ct)"' in typed["buildah"]


def test_what_is_copied_is_let_in_and_nothing_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    copied = {source for line in lines for source in line.split()[:-1]}
    assert "*" in ignore
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_of_the_checks_holds_what_the_tests_run() -> None:
    """The same versions that continuous integration installs."""
    wanted = re.findall(r"^need ((?:.+\\\n)*.+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    packages = re.findall(r":([a-z-]+)", wanted[0])
    installed = re.findall(r"no-install-recommends \\\n +(.+) \\", (ROOT / "ci/Dockerfile").read_text())
    assert set(" ".join(installed).split()) == {*packages, "git", "make"}


def test_the_pipeline_has_the_corpora_that_the_tests_read() -> None:
    pipeline = (ROOT / ".gitlab-ci.yml").read_text()
    folders = dict(re.findall(r"(DECODER_\w+_DIR): (/opt/\w+)", pipeline))
    added = re.findall(r"(/opt/\w+)/$", (ROOT / "ci/Dockerfile").read_text(), re.MULTILINE)
    looked_for = re.findall(r"^corpus (\w+)", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert set(folders) == set(looked_for) == set(CORPORA)
    assert set(folders.values()) == set(added)
