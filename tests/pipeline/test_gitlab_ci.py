"""The pipeline is valid, and no path to production bypasses tests, staging or approval."""

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
        dict.fromkeys(CHECKS | {"build", "cluster", "image-scan", "sbom", "attest", "staging", "smoke"}, RUNS)
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
    """All jobs that must succeed before this one starts, in a pipeline of these jobs."""
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
    """Checked by gitlab-ci-local, which shares no code with this; it ignores `workflow`."""
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
    # GitLab holds the start of a deployment to a protected environment for approval.
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
    for variables, source in ((PUSH, {"build", "attest"}), (TAG, {"release-image"})):
        there = set(plan(PIPELINE, variables))
        assert everything_before("staging", there) == CHECKS | source | {"image-scan", "sbom"}


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
    assert not [name for name in CHECKS | {"image-scan", "sbom", "attest", "smoke"} if "allow_failure" in JOBS[name]]
    assert "|| true" not in FILE.read_text()


def test_the_image_is_built_in_one_job_alone_and_known_by_its_digest() -> None:
    assert [name for name, job in JOBS.items() if "build-image.sh" in script(job)] == ["build"]
    # In a file: a variable set by a pipeline's starter would override a dotenv report's.
    for name in ("build", "release-image"):
        assert JOBS[name]["artifacts"]["paths"] == ["digest.txt"]
    assert "dotenv" not in FILE.read_text()
    deploy = (ROOT / "ci/deploy.sh").read_text()
    assert '--set "image.digest=$digest"' in deploy
    assert "image.tag" not in deploy


def test_the_release_image_builds_nothing_and_checks_the_signature() -> None:
    text = (ROOT / "ci/release-image.sh").read_text()
    assert "buildah" not in text
    assert "verify_image" in text


def test_the_scans_are_of_the_image_that_is_deployed() -> None:
    for name in ("image-scan", "sbom"):
        assert JOBS[name]["script"][0] == ". ci/pins.sh"
        assert JOBS[name]["script"][-1].endswith('"$IMAGE_REPOSITORY@$(cat digest.txt)"')


def test_what_is_deployed_where_is_in_no_variable_of_the_file() -> None:
    """A pipeline's starter could set another one."""
    pinned = set(re.findall(r"^([A-Z_]+)=", (ROOT / "ci/pins.sh").read_text(), re.MULTILINE))
    assert {"RELEASE", "NAMESPACE", "CHART", "IMAGE_REPOSITORY", "HELM_TIMEOUT", "SIGNER", "ISSUER"} <= pinned
    assert (
        pinned & (set(PIPELINE["variables"]) | {name for job in JOBS.values() for name in job.get("variables", {})})
        == set()
    )
    rollbacks = [line for job in JOBS.values() for line in job["script"] if line.startswith("ci/rollback.sh")]
    assert sorted(rollbacks) == ["ci/rollback.sh prod", 'ci/rollback.sh prod "$REVISION"', "ci/rollback.sh staging"]
    # Its only variable is read from a file, in the line before.
    assert JOBS["rollback-bad-release"]["script"][0] == ". ./deploy.env"


def test_every_image_of_a_job_is_a_variable_that_is_written_down_with_its_digest() -> None:
    settings = (ROOT / ".gitlab/SETTINGS.md").read_text()
    (written_down,) = re.findall(r"^\| (`CHECKS_IMAGE`.*?) \|.*by digest", settings, re.MULTILINE)
    given = [job.get("image", PIPELINE["default"]["image"]) for job in JOBS.values()]
    images = {image if isinstance(image, str) else image["name"] for image in given} - {"$PYTHON_IMAGE"}
    images |= {row["PYTHON_IMAGE"] for row in JOBS["test"]["parallel"]["matrix"]}
    images |= {service["name"] for job in JOBS.values() for service in job.get("services", ())}
    assert len(images) == 9
    assert {image.removeprefix("$") for image in images} == set(re.findall(r"`(\w+)`", written_down))


def test_the_job_test_is_the_fast_suite_with_its_coverage_gate() -> None:
    assert script(JOBS["test"]) == "make test PYTHON=python"
    commands = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '--cov-fail-under=90 -m "not full"' in commands
    # It does not mention a selection.
    selected = subprocess.run(
        ["make", "-n", "test", "ARGS=-k url"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert '-m "not full" -k url' in selected
    assert "--cov" not in selected
    reports = JOBS["test"]["artifacts"]["reports"]
    assert reports["junit"] == "junit.xml"
    assert reports["coverage_report"] == {"coverage_format": "cobertura", "path": "coverage.xml"}


def test_coverage_is_read_from_what_the_report_prints() -> None:
    pattern = JOBS["test"]["coverage"].strip("/")
    assert re.search(pattern, "TOTAL      4242    100    1000     20    91.52%", re.MULTILINE)[1] == "91.52"  # type: ignore[index]  # fails here without a match
    assert re.search(pattern, "TOTAL      4242    100    1000     20    91%", re.MULTILINE)[1] == "91"  # type: ignore[index]  # fails here without a match


def test_tests_run_on_every_python_that_is_supported() -> None:
    supported = ("3.11", "3.12", "3.13")
    assert JOBS["test"]["image"]["name"] == "$PYTHON_IMAGE"
    assert JOBS["test"]["parallel"]["matrix"] == [
        {"PYTHON_VERSION": version, "PYTHON_IMAGE": f"$PYTHON_{version.replace('.', '_')}_IMAGE"}
        for version in supported
    ]
    # Named as gitlab-ci-local names jobs.
    assert 'tests+=("test: [$version,\\$PYTHON_${version/./_}_IMAGE]")' in (ROOT / ".ci/run").read_text()


def test_the_whole_suite_is_run_but_for_what_takes_root() -> None:
    """`make test` leaves out what is marked `full`, and the job `integration` runs that."""
    (rest,) = re.findall(r'ARGS="([^"]*)"', script(JOBS["integration"]))
    assert "make test-all " in script(JOBS["integration"])
    assert rest == "-m full --ignore=tests/image/test_image.py"
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


def test_one_job_alone_has_a_runner_with_privileges_and_it_is_mains() -> None:
    apart = {name for name, job in JOBS.items() if job.keys() & {"tags", "services"}}
    assert apart == {"cluster"}
    assert [name for name, _, planned in PLANS if "cluster" in planned] == ["main"]
    # The built image by its digest, which the job reads from a file.
    assert needs(JOBS["cluster"]) == {"build"}
    assert '"$IMAGE_REPOSITORY@$(cat digest.txt)"' in (ROOT / "ci/cluster.sh").read_text()


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
    assert "\nHELM_TIMEOUT=4m\n" in (ROOT / "ci/pins.sh").read_text()
    assert '--wait --timeout "$HELM_TIMEOUT"' in (ROOT / "ci/rollback.sh").read_text()


def test_a_bad_release_is_taken_back_only_when_its_watch_has_failed() -> None:
    assert needs(JOBS["rollback-bad-release"]) == {"watch"}
    assert needs(JOBS["watch"]) == {"production"}


def test_the_pipeline_holds_no_key() -> None:
    text = FILE.read_text() + "".join(path.read_text() for path in (ROOT / "ci").glob("*.sh"))
    assert not re.search(r"AWS_|GOOGLE_APPLICATION|AZURE_|SERVICE_ACCOUNT|--privileged|dind", text)
    # The kubeconfig of the cluster that starts and ends with its job.
    assert re.findall(r"^.*KUBECONFIG=.*$", text, re.MULTILINE) == ['export KUBECONFIG="$1"']
    signing = {name: set(job["id_tokens"]) for name, job in JOBS.items() if "id_tokens" in job}
    assert signing == {"build": {"SIGSTORE_ID_TOKEN"}, "attest": {"SIGSTORE_ID_TOKEN"}}


def test_every_script_that_a_job_calls_is_there() -> None:
    called = {word for job in JOBS.values() for word in shlex.split(script(job)) if word.startswith("ci/")}
    scripts = {word for word in called if word.endswith(".sh")}
    assert "ci/pins.sh" in scripts
    assert scripts == {f"ci/{path.name}" for path in (ROOT / "ci").glob("*.sh")}
    for name in scripts:
        assert name == "ci/pins.sh" or (ROOT / name).stat().st_mode & 0o100
        subprocess.run(["sh", "-n", ROOT / name], check=True)


def test_every_variable_is_gitlabs_or_written_down() -> None:
    settings = (ROOT / ".gitlab/SETTINGS.md").read_text()
    own = set(re.findall(r"\b([A-Z][A-Z0-9_]+_(?:IMAGE|CONTEXT|FILE|URL))\b", FILE.read_text()))
    scripts = "".join(path.read_text() for path in (ROOT / "ci").glob("*.sh"))
    own |= set(re.findall(r"\$\{?([A-Z]+_(?:IMAGE|CONTEXT|FILE|URL))\b", scripts))
    own -= {"CI_PROJECT_URL", "CI_REGISTRY_IMAGE", "REGISTRY_AUTH_FILE", "PYTHON_IMAGE"}
    assert own >= {"BASE_IMAGE", "HELM_IMAGE", "PYTHON_3_11_IMAGE"}
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
