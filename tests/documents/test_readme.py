"""README.md, the guides in docs/ and CONTRIBUTING.md: the output they show is real, and their commands work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mission.seal.key_files import KeyLine, write_key_file
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from tests.conftest import wait_for
from tests.documents.document import ROOT, Block, Command, blocks
from tests.documents.shell import type_in
from tests.integration.test_up_command import up
from tests.integration.test_wheel import Environment, installed, wheel
from tests.processes import started
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite
from worker.local.stack import running_worker, stack_environment

__all__ = ["installed", "wheel"]

pytestmark = pytest.mark.full

STARTED = ROOT / "docs/getting-started.md"
DOCUMENTS = (
    ROOT / "README.md",
    STARTED,
    ROOT / "docs/producers.md",
    ROOT / "docs/deployment.md",
    ROOT / "docs/guarantees.md",
    ROOT / "docs/comparison.md",
    ROOT / "CONTRIBUTING.md",
)
PAGE = "https://docs.example.com/page"
# Commands that other tests run, and the tests; `.ci/run` runs the targets of make.
ELSEWHERE = {
    "make run": "tests/documents/test_readme.py",
    "make up": "tests/documents/test_readme.py",
    "make dev": ".ci/run",
    "make lint": ".ci/run",
    "make test": ".gitlab-ci.yml",
    'make test ARGS="-k ledger"': ".gitlab-ci.yml",
    "make test-all": ".ci/run",
    "pip install '.[worker]'": "tests/integration/test_wheel.py",
    "helm install decoder helm/decoder -n decoder --create-namespace -f helm/decoder/values-trial.yaml --wait": "tests/cluster/test_trial.py",
    'helm -n decoder rollback decoder "$REVISION" --server-side=true --force-conflicts --wait --timeout 4m': "tests/cluster/test_incidents.py",
}
WORKER = re.compile(r"(DECODER_\w+=\S+ )+decoder worker")
# The login that a command needs: a worker's if it checks a worker's settings, otherwise a producer's.
WHO = {
    "mission reveal": "reader",
    "decoder dead-letters": "operator",
    "decoder audit": "operator",
    "decoder doctor": "worker",
    "decoder check-url": "worker",
}


def prompted(document: Path) -> list[tuple[Block, Command]]:
    """The commands behind a prompt."""
    text = document.read_text(encoding="utf-8")
    return [
        (block, command)
        for block in blocks(document)
        if block.language == "console"
        for command in block.commands
        if f"$ {command.line}\n" in text
    ]


COMMANDS = [item for document in DOCUMENTS for item in prompted(document)]
TYPED = [
    (block, command)
    for block, command in COMMANDS
    if command.line not in ELSEWHERE and not WORKER.fullmatch(command.line)
]


@dataclass(frozen=True, slots=True)
class Stack:
    """A server with logins, a worker, a site, and each person's keys in files."""

    server: EmbeddedRedis
    site: SampleSite
    keys: Path
    worker_values: dict[str, str]

    @property
    def page(self) -> str:
        return f"{self.site.url}/letter.txt"

    def env(self, login: str) -> dict[str, str]:
        """The environment of a person, or of the worker."""
        if login == "worker":
            settings = stack_environment(self.worker_values)
            return {name: value for name, value in settings.items() if name.startswith("DECODER_")}
        own = {"DECODER_REDIS_URL": self.server.login_url(login)}
        if login == "reader":
            return own | {"DECODER_IDENTITY_FILE": str(self.keys / "reader.key")}
        return own | {"DECODER_URL_KEY": str(self.keys / "url.key")}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("readme")
    identity, url_key = Identity.generate(), generate_url_key()
    write_key_file(folder / "reader.key", identity.line)
    write_key_file(folder / "reader.pub", identity.recipient.line)
    write_key_file(folder / "url.key", KeyLine.parse(url_key))
    with ExitStack() as pieces:
        server, site = pieces.enter_context(EmbeddedRedis()), pieces.enter_context(SampleSite())
        values = {
            "redis_url": server.login_url("worker"),
            "url_key": str(folder / "url.key"),
            "recipient": identity.recipient.text,
            "allowed_hosts": f"127.0.0.1:{site.port}",
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.1/32",
            "metrics_host": "127.0.0.1",
            "metrics_port": "0",
        }
        pieces.enter_context(running_worker(folder, values)).wait_until(r"ready")
        yield Stack(server, site, folder, values)


@pytest.fixture
def finished(stack: Stack) -> tuple[str, str]:
    """A mission that has ended, and its batch, which has no other mission."""
    client = MissionClient(
        Settings.from_env(redis_url=stack.server.login_url("producer"), url_key=str(stack.keys / "url.key"))
    )
    batch = client.enqueue_many([stack.page])
    (mission,) = client.missions_of(batch.id)
    assert client.wait(mission, timeout=60).secrets == 3
    return mission, batch.id


def here(folder: Path, stack: Stack, *, keys: bool) -> None:
    """The files that the documents mention."""
    (folder / "urls.txt").write_text(f"{stack.page}\n{stack.site.url}/map.txt\n")
    (folder / "notes.txt").write_text("{* KEY: a sample *}\n")
    (folder / "src").mkdir()
    (folder / "src" / "app.env").write_text("MODE=sample\n")
    (folder / "team.toml").write_text("[[rules]]\nid = 'team'\nregex = 'team-[a-z0-9]{20}'\n")
    (folder / "passwords.txt").write_text("producer:sesame\n")
    if keys:
        for name in ("url.key", "reader.pub"):
            (folder / name).write_bytes((stack.keys / name).read_bytes())
            (folder / name).chmod(0o600)


@pytest.mark.parametrize(("block", "command"), TYPED, ids=lambda item: getattr(item, "line", None))
def test_what_it_says_to_type_works(
    block: Block, command: Command, stack: Stack, installed: Environment, finished: tuple[str, str], tmp_path: Path
) -> None:
    here(tmp_path, stack, keys="keys generate" not in command.line)
    login = next((who for start, who in WHO.items() if command.line.startswith(start)), "producer")
    mission, batch = finished
    line = re.sub(r"\bID\b", mission, command.line.replace(PAGE, stack.page)).replace("BATCH", batch)
    # A producer or reader has the base install, as docs/producers.md says.
    path = {"PATH": str(installed.folder / "bin")} if line.startswith("mission ") else {}
    block = Block(block.section, "sh", "", (Command(line, ()),), block.number)
    (typed,) = type_in(block, stack.env(login) | path, tmp_path)
    assert typed.code == 0, str(typed)
    assert typed.text or "completion" in line


def test_the_worker_starts_as_it_says(stack: Stack, tmp_path: Path) -> None:
    here(tmp_path, stack, keys=True)
    ((_, command),) = [item for item in COMMANDS if WORKER.fullmatch(item[1].line)]
    env = {"DECODER_REDIS_URL": stack.server.login_url("worker"), "DECODER_METRICS_PORT": "0"}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        started(["bash", "-c", f"exec env {command.line}"], env=env, cwd=tmp_path, stdout=output) as worker,
    ):
        wait_for(lambda: "ready" in log.read_text() or worker.poll() is not None, what="the worker")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0, log.read_text()


def test_what_is_run_elsewhere_is_said_here() -> None:
    lines = {command.line for _, command in COMMANDS}
    assert set(ELSEWHERE) <= lines
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values())
    makefile = (ROOT / "Makefile").read_text()
    for line in ELSEWHERE:
        if line.startswith("make"):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


PYTHON = [block for document in DOCUMENTS for block in blocks(document) if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"line-{block.number}")
def test_its_python_works(block: Block, stack: Stack, installed: Environment) -> None:
    url = stack.server.login_url("producer")
    program = "\n".join([f"REDIS_URL = {url!r}", *(command.line for command in block.commands)]).replace(
        PAGE, stack.page
    )
    done = subprocess.run(
        [str(installed.folder / "bin" / "python"), "-c", f"{program}\nprint(status)"],
        env=stack.env("producer") | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout or "queued" in done.stdout or "running" in done.stdout


def normal(text: str) -> list[str]:
    """Lines without the parts that differ between runs: ports, folders, passwords, and the resulting column widths."""
    text = re.sub(r"(127\.0\.0\.1):\d+", r"\1:PORT", text)
    text = re.sub(r"/tmp/[\w./-]*?(?=/(valkey|worker-\d\.log|\w+\.env))", "FOLDER", text)
    text = re.sub(r"(password) \S+", r"\1 PASSWORD", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def shown(language: str, start: str) -> str:
    """The one block of docs/getting-started.md with a line that starts so."""
    fences = re.findall(rf"^```{language}\n(.*?)^```", STARTED.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [text for text in fences if re.search(rf"^{re.escape(start)}", text, re.MULTILINE)]
    return str(found)


@pytest.mark.timeout(400)
def test_the_first_command_in_a_fresh_clone_prints_what_it_shows(tmp_path: Path) -> None:
    """The whole set-up, from an empty folder: it uses nothing of this checkout's environment."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    # Nor the variables of the make that runs this test.
    own = ("DECODER_", "VIRTUAL_ENV", "COV", "MAKE", "MFLAGS", "ARGS", "VENV", "PYTHON", "URLS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(["make", "run"], cwd=clone, env=env, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert normal(done.stdout) == normal(shown("text", "STATE"))


def test_a_living_system_prints_what_it_shows(tmp_path: Path) -> None:
    with up(tmp_path / "data") as running:
        text = running.text.replace(str(running.folder), "/tmp/decoder-x")
    assert normal(text) == normal(shown("console", "Valkey").partition("\n")[2])
