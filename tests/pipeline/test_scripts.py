"""The pipeline's scripts, run with stand-ins for helm and kubectl that write down what they are asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELM = """#!/bin/sh
echo "helm $*" >> "$CALLS"
case "$1" in history) printf 'REVISION\\tSTATUS\\n7\\tdeployed\\n' ;; esac
"""
KUBECTL = """#!/bin/sh
echo "kubectl $*" >> "$CALLS"
"""


class Shell:
    """Runs a script in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        for name, text in {"helm": HELM, "kubectl": KUBECTL}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self._calls), "KUBE_CONTEXT": "context"}
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


def test_a_rollback_goes_to_the_revision_before(shell: Shell) -> None:
    assert shell.run("rollback.sh").returncode == 0
    assert shell.calls("helm rollback") == ["helm rollback decoder --namespace decoder --wait --timeout 4m"]


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
