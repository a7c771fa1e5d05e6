"""The pipeline: valid, and no way to production around tests, staging and approval."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import unavailable
from tests.npm import node_modules
from tests.pipeline.rules import Planned, Variables, holds, jobs, load, needs, plan

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / ".gitlab-ci.yml"
PIPELINE = load(FILE.read_text())
JOBS = jobs(PIPELINE)

MAIN = {"CI_DEFAULT_BRANCH": "main"}
MERGE_REQUEST = MAIN | {"CI_PIPELINE_SOURCE": "merge_request_event"}
PUSH = MAIN | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main"}
BRANCH = MAIN | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "feature"}
TAG = MAIN | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1.2.3"}
ODD_TAG = MAIN | {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1.2.3-rc1"}
BY_HAND = MAIN | {"CI_PIPELINE_SOURCE": "web", "CI_COMMIT_BRANCH": "main"}
BY_HAND_ELSEWHERE = BY_HAND | {"CI_COMMIT_BRANCH": "feature"}

CHECKS = {"lint", "test", "bandit", "dependencies", "secrets", "chart", "integration"}
RUNS = Planned("on_success", blocks=True)
BUTTON = Planned("manual", blocks=False)
GATE = Planned("manual", blocks=True)

PLANS: list[tuple[str, Variables, dict[str, Planned]]] = [
    ("merge request", MERGE_REQUEST, dict.fromkeys(CHECKS, RUNS)),
    (
        "main",
        PUSH,
        dict.fromkeys(CHECKS | {"build", "image-scan", "sbom", "staging", "smoke"}, RUNS)
        | {"rollback": BUTTON, "rollback-staging": BUTTON},
    ),
    (
        "tag",
        TAG,
        dict.fromkeys(CHECKS | {"release-image", "image-scan", "sbom", "staging", "smoke", "watch"}, RUNS)
        | {"production": GATE, "rollback-bad-release": Planned("on_failure", blocks=True), "rollback": BUTTON},
    ),
    ("by hand", BY_HAND, {"rollback": GATE, "rollback-staging": BUTTON}),
    ("another branch", BRANCH, {}),
    ("another tag", ODD_TAG, {}),
    ("by hand on another branch", BY_HAND_ELSEWHERE, {}),
]


def everything_before(name: str, there: set[str]) -> set[str]:
    """All jobs that must have ended well before this one starts, in a pipeline of these jobs."""
    before: set[str] = set()
    waiting = [name]
    while waiting:
        for need in needs(JOBS[waiting.pop()]) & there:
            if need not in before:
                before.add(need)
                waiting.append(need)
    return before


def script(job: Any) -> str:
    return "\n".join(job["script"])


def test_it_is_valid_by_gitlabs_schema() -> None:
    check = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent)) or shutil.which("check-jsonschema")
    if check is None:
        unavailable("check-jsonschema is not here: the extra `dev` brings it")
    shown = subprocess.run(
        [check, "--builtin-schema", "vendor.gitlab-ci", FILE], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout


@pytest.mark.parametrize(("variables", "expected"), [row[1:] for row in PLANS], ids=[row[0] for row in PLANS])
def test_each_pipeline_has_exactly_these_jobs(variables: Variables, expected: dict[str, Planned]) -> None:
    assert plan(PIPELINE, variables) == expected


@pytest.fixture(scope="module")
def gitlab_ci_local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node_modules(tmp_path_factory.mktemp("npm")) / ".bin" / "gitlab-ci-local"


@pytest.mark.full
@pytest.mark.parametrize(("variables", "expected"), [row[1:] for row in PLANS[:4]], ids=[row[0] for row in PLANS[:4]])
def test_another_reading_of_the_rules_comes_to_the_same(
    variables: Variables, expected: dict[str, Planned], gitlab_ci_local: Path, tmp_path: Path
) -> None:
    """By gitlab-ci-local, which shares no code with this; it does not look at `workflow`."""
    shutil.copy(FILE, tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["remote", "add", "origin", "https://gitlab.example.com/decoder/decoder.git"],
        ["commit", "--quiet", "--allow-empty", "--message=x"],
    ):
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    given = [f"--variable={name}={value}" for name, value in variables.items()]
    if "CI_COMMIT_BRANCH" not in variables:
        given += ["--unset-variable", "CI_COMMIT_BRANCH"]
    shown = subprocess.run(
        [gitlab_ci_local, "--list-json", *given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    listed = json.loads(shown.stdout[shown.stdout.index("[\n") :])
    assert {
        re.sub(r": \[.*\]$", "", job["name"]): Planned(job["when"], blocks=not job["allow_failure"])
        for job in listed
        if job["when"] != "never"
    } == expected


def test_every_job_is_in_some_pipeline() -> None:
    assert set().union(*(expected for _, _, expected in PLANS)) == set(JOBS)


def test_only_one_job_deploys_to_production_and_it_waits_for_approval() -> None:
    deploying = {name for name, job in JOBS.items() if re.search(r"deploy\.sh|helm (upgrade|install)", script(job))}
    assert deploying == {"staging", "production"}
    production = JOBS["production"]
    # The start of a deployment to a protected environment is what GitLab holds for approval.
    assert production["environment"]["name"] == "production"
    assert production["environment"].get("action", "start") == "start"
    assert [rule["when"] for rule in production["rules"]] == ["manual"]


def test_every_way_to_production_has_tests_scans_staging_and_the_smoke_test_behind_it() -> None:
    ways = [set(planned) for _, variables, _ in PLANS if "production" in (planned := plan(PIPELINE, variables))]
    assert len(ways) == 1
    assert everything_before("production", ways[0]) == CHECKS | {
        "release-image",
        "image-scan",
        "sbom",
        "staging",
        "smoke",
    }


def test_staging_waits_for_every_check_and_scan() -> None:
    for variables, source in ((PUSH, "build"), (TAG, "release-image")):
        there = set(plan(PIPELINE, variables))
        assert everything_before("staging", there) == CHECKS | {source, "image-scan", "sbom"}


def test_no_job_waits_for_one_that_may_be_missing() -> None:
    """GitLab refuses such a pipeline as a whole."""
    for _, variables, _ in PLANS:
        there = set(plan(PIPELINE, variables))
        for name in there:
            firm = {
                need if isinstance(need, str) else need["job"]
                for need in JOBS[name]["needs"]
                if isinstance(need, str) or not need.get("optional")
            }
            assert firm <= there, name


def test_no_gate_is_allowed_to_fail() -> None:
    assert not [name for name in CHECKS | {"image-scan", "sbom", "smoke"} if "allow_failure" in JOBS[name]]
    assert "|| true" not in FILE.read_text()


def test_the_image_is_built_in_one_job_alone_and_known_by_its_digest() -> None:
    assert [name for name, job in JOBS.items() if "build-image.sh" in script(job)] == ["build"]
    for name in ("build-image.sh", "release-image.sh"):
        assert 'echo "DIGEST=$digest" > image.env' in (ROOT / "ci" / name).read_text()
    deploy = (ROOT / "ci/deploy.sh").read_text()
    assert '--set "image.digest=$DIGEST"' in deploy
    assert "image.tag" not in deploy


def test_the_release_image_builds_nothing_and_checks_the_signature() -> None:
    text = (ROOT / "ci/release-image.sh").read_text()
    assert "buildah" not in text
    assert "cosign verify" in text


def test_the_job_test_is_the_fast_suite_with_its_coverage_gate() -> None:
    assert script(JOBS["test"]) == "make test PYTHON=python"
    reports = JOBS["test"]["artifacts"]["reports"]
    assert reports["junit"] == "junit.xml"
    assert reports["coverage_report"] == {"coverage_format": "cobertura", "path": "coverage.xml"}


def test_coverage_is_read_from_what_the_report_prints() -> None:
    pattern = JOBS["test"]["coverage"].strip("/")
    assert re.search(pattern, "TOTAL      4242    100    1000     20    91.52%", re.MULTILINE)[1] == "91.52"  # type: ignore[index]  # fails here without a match
    assert re.search(pattern, "TOTAL      4242    100    1000     20    91%", re.MULTILINE)[1] == "91"  # type: ignore[index]  # fails here without a match


def test_tests_run_on_every_python_that_is_supported() -> None:
    assert JOBS["test"]["parallel"]["matrix"] == [{"PYTHON_VERSION": ["3.11", "3.12", "3.13"]}]


def test_the_whole_suite_is_run_but_for_what_takes_root() -> None:
    """`make test` leaves out what is marked `full`, and the job `integration` runs that."""
    (rest,) = re.findall(r'ARGS="([^"]*)"', script(JOBS["integration"]))
    assert "make test-all " in script(JOBS["integration"])
    assert rest == "-m full --ignore=tests/image/test_image.py --no-cov"
    # The last release is a tag.
    assert JOBS["integration"]["variables"]["GIT_DEPTH"] == "0"


def test_no_check_runs_as_root() -> None:
    assert not re.search(r"apt-get|sudo", FILE.read_text())
    assert JOBS["test"]["image"]["docker"]["user"] == JOBS["test"]["image"]["kubernetes"]["user"] == "1000:1000"
    assert (ROOT / "ci/Dockerfile").read_text().splitlines()[-1] == "USER 1000:1000"
    images = {
        name: job.get("image", PIPELINE["default"]["image"])
        for name, job in JOBS.items()
        if name in CHECKS - {"test", "chart"}
    }
    assert set(images.values()) == {"$CHECKS_IMAGE"}


def test_what_deploys_is_alone_and_is_not_interrupted() -> None:
    changing = [name for name, job in JOBS.items() if re.search(r"deploy\.sh|rollback\.sh|helm test", script(job))]
    assert changing
    for name in changing:
        assert JOBS[name]["interruptible"] is False
        assert JOBS[name]["resource_group"] == JOBS[name]["environment"]["name"]
    # An hour's watch must not keep a rollback waiting.
    assert "resource_group" not in JOBS["watch"]


def test_a_rollback_is_one_step_and_waits_for_nothing() -> None:
    assert JOBS["rollback"]["needs"] == []
    assert JOBS["rollback"]["environment"] == {"name": "production", "action": "access"}
    assert PIPELINE["variables"]["HELM_TIMEOUT"] == "4m"
    assert '--wait --timeout "$HELM_TIMEOUT"' in (ROOT / "ci/rollback.sh").read_text()


def test_a_bad_release_is_taken_back_only_when_its_watch_has_failed() -> None:
    assert needs(JOBS["rollback-bad-release"]) == {"watch"}
    assert needs(JOBS["watch"]) == {"production"}


def test_the_pipeline_holds_no_key() -> None:
    text = FILE.read_text() + "".join(path.read_text() for path in (ROOT / "ci").glob("*.sh"))
    assert not re.search(r"AWS_|GOOGLE_APPLICATION|AZURE_|KUBECONFIG|SERVICE_ACCOUNT|--privileged|dind", text)
    assert set(JOBS["build"]["id_tokens"]) == {"SIGSTORE_ID_TOKEN"}


def test_every_script_that_a_job_calls_is_there() -> None:
    called = {word for job in JOBS.values() for word in shlex.split(script(job)) if word.startswith("ci/")}
    scripts = {word for word in called if word.endswith(".sh")}
    assert scripts == {f"ci/{path.name}" for path in (ROOT / "ci").glob("*.sh")}
    for name in scripts:
        assert (ROOT / name).stat().st_mode & 0o100
        subprocess.run(["sh", "-n", ROOT / name], check=True)


def test_every_variable_is_gitlabs_or_written_down() -> None:
    settings = (ROOT / ".gitlab/SETTINGS.md").read_text()
    own = set(re.findall(r"\b([A-Z][A-Z_]+_(?:IMAGE|CONTEXT|FILE|URL))\b", FILE.read_text()))
    scripts = "".join(path.read_text() for path in (ROOT / "ci").glob("*.sh"))
    own |= set(re.findall(r"\$\{?([A-Z]+_(?:IMAGE|CONTEXT|FILE|URL))\b", scripts))
    own -= {"CI_PROJECT_URL", "CI_SERVER_URL", "CI_REGISTRY_IMAGE", "REGISTRY_AUTH_FILE"}
    assert own >= {"BASE_IMAGE", "KUBE_CONTEXT", "RECIPIENT_FILE"}
    assert [name for name in sorted(own) if f"`{name}`" not in settings] == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('$A == "1"', True),
        ('$A == "2"', False),
        ('$A != "2"', True),
        ("$A", True),
        ("$B", False),
        ('$A == "2" || $A == "1"', True),
        ('$A == "1" && $B', False),
        ("$A == $C", True),
        (r"$A =~ /^\d$/", True),
        (r"$B =~ /^\d$/", False),
    ],
)
def test_expressions_are_read_as_gitlab_reads_them(expression: str, *, expected: bool) -> None:
    assert holds(expression, {"A": "1", "C": "1"}) is expected


def test_every_path_of_the_code_owners_exists() -> None:
    lines = (ROOT / "CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line.startswith("/")]
    assert paths
    assert [path for path in paths if not (ROOT / path.strip("/")).exists()] == []
