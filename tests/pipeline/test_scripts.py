"""The pipeline's scripts, run with stand-ins for helm, kubectl and cosign that record their arguments."""

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
SKOPEO = f"""#!/bin/sh
echo "skopeo $*" >> "$CALLS"
echo sha256:{"ab" * 32}
"""
# Refuses the checks that REFUSE names, as for a missing signature or attestation.
COSIGN = """#!/bin/sh
echo "cosign $*" >> "$CALLS"
env | grep -E '^(COSIGN|SIGSTORE|TUF)_' >> "$CALLS"
[ "$1" != "${REFUSE:-}" ]
"""
DIGEST = "sha256:" + "ab" * 32
SIGNER = "https://gitlab.example.com/decoder/decoder//.gitlab-ci.yml@refs/heads/main"
IMAGE = "registry.example.com/decoder/decoder/decoder"
IDENTITY = f"--certificate-identity {SIGNER} --certificate-oidc-issuer https://gitlab.example.com"


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
    """Run a script in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        for name, text in {"helm": HELM, "kubectl": KUBECTL, "cosign": COSIGN, "skopeo": SKOPEO}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "digest.txt").write_text(f"{DIGEST}\n")
        self._calls.touch()
        self.has_run(PLAIN)

    def has_run(self, revisions: list[tuple[int, str, str]]) -> None:
        (self.folder / "history").write_text(history(revisions))

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self._calls), "HOME": str(self.folder)}
        base |= {"HISTORY": str(self.folder / "history"), "TMPDIR": str(self.folder)}
        base |= {"CI_REGISTRY": "registry.example.com", "CI_REGISTRY_USER": "ci", "CI_REGISTRY_PASSWORD": "password"}
        return subprocess.run(
            [ROOT / "ci" / script, *arguments],
            cwd=self.folder,
            env=base | env,
            capture_output=True,
            text=True,
            check=False,
        )

    def is_version(self, version: str) -> None:
        (self.folder / "mission").mkdir()
        (self.folder / "mission/version.py").write_text(f'VERSION = "{version}"\n')
        (self.folder / "CHANGELOG.md").write_text(f"## [{version}] - 2026-01-01\n")

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
        # A second rollback goes further back, and not to the release that was rolled back.
        ([(8, UPGRADE, WORKED), (9, UPGRADE, WORKED), (10, UPGRADE, WORKED), (11, "Rollback to 9", RUNS)], 8),
        # Helm itself rolled back a release that did not get ready.
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
        # The revision that it rolled back to is no longer in the history.
        ([(21, UPGRADE, WORKED), (22, "Rollback to 20", WORKED), (23, UPGRADE, RUNS)], 22),
    ],
)
def test_a_rollback_goes_to_what_worked_before(
    shell: Shell, revisions: list[tuple[int, str, str]], expected: int
) -> None:
    shell.has_run(revisions)
    assert shell.run("rollback.sh", "prod").returncode == 0
    words = (
        f"helm rollback decoder {expected} --namespace decoder --server-side=true --force-conflicts --wait --timeout 4m"
    )
    assert shell.calls("helm rollback") == [words]


@pytest.mark.parametrize(
    "revisions",
    [
        [(1, "Install complete", RUNS)],
        [(1, "Install complete", WORKED), (2, UPGRADE, WORKED), (3, "Rollback to 1", RUNS)],
    ],
)
def test_where_nothing_worked_before_a_rollback_says_so(shell: Shell, revisions: list[tuple[int, str, str]]) -> None:
    shell.has_run(revisions)
    refused = shell.run("rollback.sh", "prod")
    assert refused.returncode == 1
    assert "no successful release before revision" in refused.stderr
    assert shell.calls("helm rollback") == []


SCRIPTS = [("deploy.sh", "prod"), ("rollback.sh", "prod"), ("release-image.sh",), ("build-image.sh",), ("attest.sh",)]


@pytest.mark.parametrize("script", SCRIPTS, ids=[row[0] for row in SCRIPTS])
@pytest.mark.parametrize(
    "name",
    [
        "RELEASE",
        "NAMESPACE",
        "CHART",
        "IMAGE",
        "KUBE_CONTEXT",
        "HELM_TIMEOUT",
        "ROLLBACK_TO",
        "RECIPIENT_FILE",
        "DIGEST",
    ],
)
def test_a_variable_of_the_starters_is_refused_before_anything_is_done(
    shell: Shell, script: tuple[str, ...], name: str
) -> None:
    refused = shell.run(*script, **{name: "mine"})
    assert refused.returncode == 2
    assert f"{name} is set: the pipeline takes no such variable" in refused.stderr
    assert shell.calls("") == []


def test_another_projects_pipeline_does_nothing_with_these_pins(shell: Shell) -> None:
    refused = shell.run("rollback.sh", "prod", CI_PROJECT_URL="https://gitlab.example.com/somebody/decoder")
    assert refused.returncode == 2
    assert shell.calls("") == []


@pytest.mark.parametrize(("environment", "context"), [("staging", "staging"), ("prod", "prod")])
def test_the_cluster_is_that_of_the_environment_and_of_nothing_else(
    shell: Shell, environment: str, context: str
) -> None:
    assert shell.run("rollback.sh", environment, CI_ENVIRONMENT_NAME="elsewhere").returncode == 0
    assert shell.calls("kubectl") == [f"kubectl config use-context decoder/agents:{context}"]


def test_an_environment_that_is_none_is_refused(shell: Shell) -> None:
    assert shell.run("rollback.sh", "production").returncode == 2
    assert shell.calls("helm") == []


def test_no_setting_of_the_tools_reaches_them(shell: Shell) -> None:
    """A root of trust chosen by the starter would make every signature valid."""
    own = {"SIGSTORE_ROOT_FILE": "mine", "TUF_ROOT": "mine", "COSIGN_REPOSITORY": "mine"}
    assert shell.run("deploy.sh", "prod", **own).returncode == 0
    assert [line for start in ("SIGSTORE", "TUF", "COSIGN") for line in shell.calls(start)] == []


def test_what_this_pipeline_deployed_is_taken_back(shell: Shell) -> None:
    assert shell.run("rollback.sh", "prod", "7").returncode == 0
    assert len(shell.calls("helm rollback")) == 1


@pytest.mark.parametrize("revision", ["6", ""])
def test_what_somebody_else_deployed_is_left_alone(shell: Shell, revision: str) -> None:
    assert shell.run("rollback.sh", "prod", revision).returncode == 0
    assert shell.calls("helm rollback") == []


def test_a_deployment_is_of_a_digest_and_hands_its_revision_on(shell: Shell) -> None:
    assert shell.run("deploy.sh", "prod").returncode == 0
    (call,) = shell.calls("helm upgrade")
    assert "--values helm/decoder/values-prod.yaml" in call
    assert f"--set image.repository={IMAGE} --set image.digest={DIGEST}" in call
    assert "--server-side=true --force-conflicts --rollback-on-failure --wait --timeout 4m" in call
    handed_on = dict(line.split("=") for line in (shell.folder / "deploy.env").read_text().splitlines())
    assert handed_on["REVISION"] == "7"
    assert handed_on["DEPLOYED_AT"].isdigit()


@pytest.mark.parametrize("digest", ["", "latest", "sha256:abc", f"{DIGEST},worker.replicas=0"])
def test_without_a_digest_nothing_is_deployed(shell: Shell, digest: str) -> None:
    (shell.folder / "digest.txt").write_text(digest)
    refused = shell.run("deploy.sh", "prod")
    assert refused.returncode != 0
    assert "no image has been handed on" in refused.stderr
    assert shell.calls("helm") == []


def test_signature_and_list_of_parts_are_verified_before_helm_is_called(shell: Shell) -> None:
    assert shell.run("deploy.sh", "staging").returncode == 0
    assert shell.calls("cosign verify") == [
        f"cosign verify {IDENTITY} {IMAGE}@{DIGEST}",
        f"cosign verify-attestation --type cyclonedx {IDENTITY} {IMAGE}@{DIGEST}",
    ]
    calls = shell.calls("")
    assert calls.index(shell.calls("cosign verify-attestation")[0]) < calls.index(shell.calls("helm upgrade")[0])


@pytest.mark.parametrize(
    ("refused", "why"), [("verify", "is not signed by"), ("verify-attestation", "has no SBOM attested by")]
)
@pytest.mark.parametrize(("script", "after"), [(("deploy.sh", "prod"), "helm"), (("release-image.sh",), "skopeo copy")])
def test_an_image_that_main_did_not_sign_goes_nowhere(
    shell: Shell, refused: str, why: str, script: tuple[str, ...], after: str
) -> None:
    shell.is_version("1.2.3")
    shown = shell.run(*script, REFUSE=refused, CI_COMMIT_TAG="v1.2.3", CI_COMMIT_SHA="abc")
    assert shown.returncode == 1
    assert f"{DIGEST} {why} {SIGNER}" in shown.stderr
    assert shell.calls(after) == []


def test_without_cosign_nothing_is_deployed(shell: Shell) -> None:
    (shell.folder / "cosign").write_text("#!/bin/sh\nexit 127\n")
    assert shell.run("deploy.sh", "prod").returncode != 0
    assert shell.calls("helm") == []


def test_a_rollback_waits_for_no_registry(shell: Shell) -> None:
    assert shell.run("rollback.sh", "prod", REFUSE="verify").returncode == 0
    assert shell.calls("cosign") == []


def test_the_list_of_parts_is_put_on_record_for_the_digest(shell: Shell) -> None:
    assert shell.run("attest.sh", SIGSTORE_ID_TOKEN="token").returncode == 0
    assert shell.calls("cosign attest") == [
        f"cosign attest --yes --type cyclonedx --predicate sbom.cdx.json {IMAGE}@{DIGEST}"
    ]
    assert "SIGSTORE_ID_TOKEN=token" in shell.calls("SIGSTORE")


def test_a_release_takes_the_digest_that_main_built(shell: Shell) -> None:
    shell.is_version("1.2.3")
    (shell.folder / "digest.txt").unlink()
    assert shell.run("release-image.sh", CI_COMMIT_TAG="v1.2.3", CI_COMMIT_SHA="abc").returncode == 0
    assert (shell.folder / "digest.txt").read_text() == f"{DIGEST}\n"
    assert shell.calls("skopeo copy") == [
        f"skopeo copy --preserve-digests docker://{IMAGE}@{DIGEST} docker://{IMAGE}:v1.2.3"
    ]


def test_a_base_without_a_digest_is_not_built_on(shell: Shell) -> None:
    refused = shell.run("build-image.sh", BASE_IMAGE="python:3.13-slim")
    assert refused.returncode == 2
    assert "BASE_IMAGE must be an image with a digest" in refused.stderr


def test_the_clusters_tests_get_the_cluster_beside_the_job_and_what_was_built(shell: Shell) -> None:
    names = ("KUBECONFIG", "CLUSTER_IMAGE", "CLUSTER_REGISTRY")
    printed = "; ".join(f'echo "{name}=${name}" >> "$CALLS"' for name in names)
    for name, text in {"buildah": "exit 0", "make": f'echo "make $*" >> "$CALLS"; {printed}'}.items():
        (shell.folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (shell.folder / name).chmod(0o755)
    kubeconfig = shell.folder / "k3s.yaml"
    kubeconfig.write_text("server: https://127.0.0.1:6443\n")
    assert shell.run("cluster.sh", str(kubeconfig)).returncode == 0
    assert shell.calls("") == [
        "make cluster PYTHON=python",
        f"KUBECONFIG={kubeconfig}",
        f"CLUSTER_IMAGE={IMAGE}@{DIGEST}",
        "CLUSTER_REGISTRY=registry:5000/decoder",
    ]
    assert kubeconfig.read_text() == "server: https://k3s:6443\n"


def test_a_tag_that_is_not_the_version_is_not_released(shell: Shell) -> None:
    shell.is_version("1.2.3")
    refused = shell.run("release-image.sh", CI_COMMIT_TAG="v1.2.4")
    assert refused.returncode == 2
    assert "the tag is v1.2.4, mission/version.py says 1.2.3" in refused.stderr


def test_a_version_that_the_changelog_does_not_name_is_not_released(shell: Shell) -> None:
    shell.is_version("1.2.3")
    (shell.folder / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.2] - 2026-01-01\n")
    refused = shell.run("release-image.sh", CI_COMMIT_TAG="v1.2.3")
    assert refused.returncode == 2
    assert "CHANGELOG.md has no section for 1.2.3" in refused.stderr


def test_the_version_is_read_from_where_it_stands() -> None:
    """Both scripts that need it read the one source."""
    for name in ("build-image.sh", "release-image.sh"):
        (expression,) = re.findall(r"version=\$\(sed -n '(.+)' mission/version.py\)", (ROOT / "ci" / name).read_text())
        read = subprocess.run(
            ["sed", "-n", expression, ROOT / "mission/version.py"], capture_output=True, text=True, check=True
        )
        assert read.stdout == f"{VERSION}\n"
