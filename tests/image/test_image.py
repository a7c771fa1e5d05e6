"""The image, built and run: not as root, on a read-only root, as process 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mission.seal.key_files import KeyLine
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.version import VERSION
from producer import MissionClient
from tests.conftest import wait_for
from tests.image.build import DECODER, build_image
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite
from worker.local.stack import access
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
COMMIT = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.strip()
# Without the base: only the files that the Dockerfile adds.
MAX_ADDED_BYTES = 150 * 1024 * 1024
GRACE_SECONDS = 5

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its configuration, its root file system, and what it adds to its base."""

    config: dict[str, Any]
    root: Path
    added_bytes: int


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    buildah = build_image(folder)
    config = json.loads(buildah("inspect", "--type", "image", DECODER))["OCIv1"]["config"]
    root = Path(buildah("mount", buildah("from", DECODER)))
    size = {name: disk_bytes(path) for name, path in (("base", folder / "base"), ("image", root))}
    yield Image(config, root, size["image"] - size["base"])
    shutil.rmtree(folder)  # each layer is a whole copy: most of a gigabyte


def disk_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


@contextmanager
def running(image: Image, command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the image as Kubernetes would start it: its user, process 1, a read-only root, a /tmp in memory."""
    user = image.config["User"]
    root = str(image.root)
    setup = f"""
        mount --bind {root} {root} && mount -o remount,bind,ro {root} && mount -t proc proc {root}/proc &&
        mount -t tmpfs -o mode=1777,size=16m tmpfs {root}/tmp && mkdir {root}/tmp/keys &&
        mount --bind {log.parent}/keys {root}/tmp/keys && cd / &&
        exec setpriv --no-new-privs chroot --userspec={user} --groups=65532 {root} /usr/bin/env -i "$@"
    """
    variables = [*image.config["Env"], *(f"{name}={value}" for name, value in env.items())]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*namespaces, "sh", "-c", setup, "sh", *variables, *command], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def inside(image: Image, program: str, folder: Path) -> str:
    """The output of a Python program in the image."""
    (folder / "keys").mkdir(exist_ok=True)
    log = folder / "inside.log"
    with running(image, ["python", "-c", program], {}, log) as process:
        assert process.wait(timeout=60) == 0, log.read_text()
    return log.read_text().strip()


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The process that `unshare` started: process 1 in the container."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = map(int, children)
    return child


def test_it_starts_the_worker_without_a_shell(image: Image) -> None:
    assert (image.config["Entrypoint"], image.config["Cmd"]) == (["decoder"], ["worker"])


def test_it_says_what_it_is(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_is_small(image: Image) -> None:
    print(f"the image adds {image.added_bytes / 2**20:.0f} MiB to its base")
    assert 0 < image.added_bytes < MAX_ADDED_BYTES


def test_nothing_in_it_builds_or_installs(image: Image) -> None:
    unwanted = {"pip", "setuptools", "wheel", "ensurepip", "gcc", "cc", "make", "git", "valkey-server"}
    assert [path for path in image.root.rglob("*") if path.name in unwanted] == []


def test_nothing_in_it_is_setuid_or_open_to_all(image: Image) -> None:
    modes = {path: path.lstat().st_mode for path in image.root.rglob("*") if not path.is_symlink()}
    assert [path for path, mode in modes.items() if mode & 0o6000] == []
    writable = [path for path, mode in modes.items() if mode & 0o002 and path.is_file()]
    assert writable == []


def test_it_does_not_run_as_root_and_cannot_write_but_to_tmp(image: Image, tmp_path: Path) -> None:
    program = """
import os
def writes(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
print(os.getpid(), os.getuid(), os.getgid(), writes("/x"), writes("/opt/decoder/x"), writes("/tmp/x"))
"""
    assert inside(image, program, tmp_path) == "1 65532 65532 False False True"


def test_both_commands_and_flower_are_in_it(image: Image, tmp_path: Path) -> None:
    program = """
import subprocess
print(subprocess.check_output(["mission", "--version"], text=True).strip())
print(subprocess.check_output(["celery", "-A", "worker.app", "flower", "--help"], text=True)[:6])
"""
    assert inside(image, program, tmp_path).splitlines() == [f"mission {VERSION} (commit {COMMIT})", "Usage:"]


def test_its_code_comes_compiled(image: Image) -> None:
    """Checked by a hash of the source: since the build sets every file's time, Python would otherwise recompile at each start."""
    headers = [path.read_bytes()[:8] for path in (image.root / "opt/decoder").rglob("__pycache__/*.pyc")]
    assert len(headers) > 100
    assert [header for header in headers if not header[4] & 1] == []


def test_its_rules_come_compiled(image: Image, tmp_path: Path) -> None:
    program = """
from worker.settings import WorkerSettings
print({each.detector: each.cached for each in WorkerSettings.from_env().looks_for.scanners()})
"""
    assert inside(image, program, tmp_path) == "{'provider': True, 'generic': True}"


def test_it_decodes_a_mission_and_stops_within_grace(image: Image, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    url_key = KeyLine.parse(generate_url_key()).text
    for name, text in {"url-key": url_key, "reader.pub": Identity.generate().recipient.text}.items():
        (keys / name).write_text(text + "\n")
        os.chown(keys / name, 0, 65532)
        (keys / name).chmod(0o440)
    with EmbeddedRedis() as server, SampleSite() as site:
        env = {f"DECODER_{name.upper()}": value for name, value in access([site.url]).items()} | {
            "DECODER_REDIS_URL": server.url,
            "DECODER_URL_KEY": "/tmp/keys/url-key",
            "DECODER_RECIPIENT": "/tmp/keys/reader.pub",
            "DECODER_METRICS_PORT": "0",
            "DECODER_HEALTH_FILE": "/tmp/health",
            "DECODER_SHUTDOWN_GRACE": str(GRACE_SECONDS),
        }
        log = tmp_path / "worker.log"
        settings = WorkerSettings.from_env(redis_url=server.url, url_key=url_key)
        with running(image, [*image.config["Entrypoint"], *image.config["Cmd"]], env, log) as process:
            client = MissionClient(settings)
            status = client.wait(client.enqueue(f"{site.url}/letter.txt").id, timeout=60)
            assert (status.state, status.secrets) == ("succeeded", 3), log.read_text()
            worker = child_of(process)
            assert re.search(r"^NSpid:\s+\d+\s+1$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)
            probe = ["python", "-m", "worker.observe.health", "/tmp/health", "--ready"]
            enter = [
                "nsenter",
                f"--target={worker}",
                "--mount",
                "--pid",
                f"--root=/proc/{worker}/root",
                "--setuid=65532",
            ]
            environment = ["/usr/bin/env", "-i", *image.config["Env"]]
            wait_for(
                lambda: (
                    subprocess.run([*enter, *environment, *probe], capture_output=True, check=False).returncode == 0
                ),
                what="the readiness probe",
            )
            began = time.monotonic()
            os.kill(worker, signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert time.monotonic() - began < GRACE_SECONDS + 10
