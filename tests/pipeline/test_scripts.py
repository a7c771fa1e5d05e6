"""The pipeline's scripts, run with stand-ins for helm and kubectl that write down what they are asked."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from mission.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
HELM = """#!/bin/sh
echo "helm $*" >> "$CALLS"
case "$*" in
  history*yaml) cat "$HISTORY" ;;
  history*) printf 'REVISION\\tSTATUS\\n7\\tdeployed\\n' ;;
esac
"""
KUBECTL = """#!/bin/sh
echo "kubectl $*" >> "$CALLS"
"""


WORKED, RUNS, FAILED = "superseded", "deployed", "failed"
UPGRADE = "Upgrade complete"
PLAIN = [(5, UPGRADE, WORKED), (6, UPGRADE, WORKED), (7, UPGRADE, RUNS)]


def history(revisions: list[tuple[int, str, str]]) -> str:
    """As `helm history --output yaml` has it."""
    return "".join(
        f"- app_version: 1.0.0\n  chart: decoder-1.0.0\n  description: {description}\n  revision: {revision}\n"
        f'  status: {status}\n  updated: "2026-11-24T15:00:00.000000001Z"\n'
        for revision, description, status in revisions
    )


class Shell:
    """Runs a script in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        for name, text in {"helm": HELM, "kubectl": KUBECTL}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.has_run(PLAIN)

    def has_run(self, revisions: list[tuple[int, str, str]]) -> None:
        (self.folder / "history").write_text(history(revisions))

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self._calls), "KUBE_CONTEXT": "context"}
        base["HISTORY"] = str(self.folder / "history")
        base |= {"RELEASE": "decoder", "NAMESPACE": "decoder", "HELM_TIMEOUT": "4m", "CHART": "helm/decoder"}
        return subprocess.run(
            [ROOT / "ci" / script, *arguments],
            cwd=self.folder,
            env=base | env,
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self, start: str) -> list[str]:
        return [line for line in self._calls.read_text().splitlines() if line.startswith(start)]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize(
    ("revisions", "expected"),
    [
        (PLAIN, 6),
        ([(1, "Install complete", WORKED), (2, UPGRADE, WORKED), (3, "Rollback to 1", WORKED), (4, UPGRADE, RUNS)], 3),
        # Pressed again: further back, and not to the release that was taken back.
        ([(8, UPGRADE, WORKED), (9, UPGRADE, WORKED), (10, UPGRADE, WORKED), (11, "Rollback to 9", RUNS)], 8),
        # Helm went back by itself from one that did not get ready.
        (
            [
                (1, "Install complete", WORKED),
                (2, UPGRADE, WORKED),
                (3, "Upgrade failed", FAILED),
                (4, "Rollback to 2", RUNS),
            ],
            1,
        ),
        ([(5, UPGRADE, WORKED), (6, UPGRADE, RUNS), (7, "Preparing upgrade", "pending-upgrade")], 6),
        ([(5, UPGRADE, WORKED), (6, "Upgrade failed", FAILED), (7, UPGRADE, RUNS)], 5),
        # The revision that it went back to is no longer in the history.
        ([(21, UPGRADE, WORKED), (22, "Rollback to 20", WORKED), (23, UPGRADE, RUNS)], 22),
    ],
)
def test_a_rollback_goes_to_what_worked_before(
    shell: Shell, revisions: list[tuple[int, str, str]], expected: int
) -> None:
    shell.has_run(revisions)
    assert shell.run("rollback.sh").returncode == 0
    assert shell.calls("helm rollback") == [f"helm rollback decoder {expected} --namespace decoder --wait --timeout 4m"]


@pytest.mark.parametrize(
    "revisions",
    [
        [(1, "Install complete", RUNS)],
        [(1, "Install complete", WORKED), (2, UPGRADE, WORKED), (3, "Rollback to 1", RUNS)],
    ],
)
def test_where_nothing_worked_before_a_rollback_says_so(shell: Shell, revisions: list[tuple[int, str, str]]) -> None:
    shell.has_run(revisions)
    refused = shell.run("rollback.sh")
    assert refused.returncode == 1
    assert "nothing has worked before revision" in refused.stderr
    assert shell.calls("helm rollback") == []


def test_a_rollback_goes_to_the_revision_that_it_is_told(shell: Shell) -> None:
    assert shell.run("rollback.sh", ROLLBACK_TO="5").returncode == 0
    assert shell.calls("helm rollback") == ["helm rollback decoder 5 --namespace decoder --wait --timeout 4m"]


def test_what_this_pipeline_deployed_is_taken_back(shell: Shell) -> None:
    assert shell.run("rollback.sh", "7").returncode == 0
    assert len(shell.calls("helm rollback")) == 1


@pytest.mark.parametrize("revision", ["6", ""])
def test_what_somebody_else_deployed_is_left_alone(shell: Shell, revision: str) -> None:
    assert shell.run("rollback.sh", revision).returncode == 0
    assert shell.calls("helm rollback") == []


def test_a_deployment_is_of_a_digest_and_hands_its_revision_on(shell: Shell) -> None:
    env = {"DIGEST": "sha256:abc", "IMAGE": "registry.example.com/decoder", "RECIPIENT_FILE": "reader.pub"}
    assert shell.run("deploy.sh", "prod", **env).returncode == 0
    (call,) = shell.calls("helm upgrade")
    assert "--values helm/decoder/values-prod.yaml" in call
    assert "--set image.digest=sha256:abc" in call
    assert "--rollback-on-failure --wait --timeout 4m" in call
    handed_on = dict(line.split("=") for line in (shell.folder / "deploy.env").read_text().splitlines())
    assert handed_on["REVISION"] == "7"
    assert handed_on["DEPLOYED_AT"].isdigit()


def test_without_a_digest_nothing_is_deployed(shell: Shell) -> None:
    refused = shell.run("deploy.sh", "prod", IMAGE="i", RECIPIENT_FILE="f")
    assert refused.returncode != 0
    assert "no image has been handed on" in refused.stderr


def test_a_base_without_a_digest_is_not_built_on(shell: Shell) -> None:
    refused = shell.run("build-image.sh", BASE_IMAGE="python:3.13-slim")
    assert refused.returncode == 2
    assert "BASE_IMAGE takes an image with a digest" in refused.stderr


def test_a_tag_that_is_not_the_version_is_not_released(shell: Shell) -> None:
    (shell.folder / "mission").mkdir()
    (shell.folder / "mission/version.py").write_text('VERSION = "1.2.3"\n')
    refused = shell.run("release-image.sh", CI_COMMIT_TAG="v1.2.4")
    assert refused.returncode == 2
    assert "the tag is v1.2.4, mission/version.py says 1.2.3" in refused.stderr


def test_a_version_that_the_changelog_does_not_name_is_not_released(shell: Shell) -> None:
    (shell.folder / "mission").mkdir()
    (shell.folder / "mission/version.py").write_text('VERSION = "1.2.3"\n')
    (shell.folder / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.2] - 2026-01-01\n")
    refused = shell.run("release-image.sh", CI_COMMIT_TAG="v1.2.3")
    assert refused.returncode == 2
    assert "CHANGELOG.md has no section of 1.2.3" in refused.stderr


def test_the_version_is_read_from_where_it_stands() -> None:
    """Both scripts that need it read the one source."""
    for name in ("build-image.sh", "release-image.sh"):
        (expression,) = re.findall(r"version=\$\(sed -n '(.+)' mission/version.py\)", (ROOT / "ci" / name).read_text())
        read = subprocess.run(
            ["sed", "-n", expression, ROOT / "mission/version.py"], capture_output=True, text=True, check=True
        )
        assert read.stdout == f"{VERSION}\n"
