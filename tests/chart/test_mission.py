"""What `helm test` runs, run against a real worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from tests.chart.rendering import environment, find, render
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite
from worker.local.stack import access, running_worker, stack_environment

pytestmark = pytest.mark.full

SECRETS = 3


@pytest.fixture(scope="module")
def access_to_a_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str]]:
    """A producer's variables, with a worker for its missions, and the address of a document with three secrets."""
    with EmbeddedRedis() as server, SampleSite() as site:
        producer = {"redis_url": server.url, "url_key": generate_url_key()}
        values = producer | access([site.url]) | {"recipient": Identity.generate().recipient.text}
        values |= {"metrics_port": "0", "metrics_host": "127.0.0.1"}
        with running_worker(tmp_path_factory.mktemp("worker"), values) as worker:
            worker.wait_until(r"ready\.")
            yield stack_environment(producer), f"{site.url}/letter.txt"


def run(variables: dict[str, str], folder: Path, test: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    pod = find(render(environment("staging", test=test)), "Pod", "decoder-test")
    (container,) = pod["spec"]["containers"]
    own = {item["name"]: item["value"] for item in container["env"] if item["name"].startswith("TEST_")}
    command = [sys.executable if word == "python" else word for word in container["command"]]
    return subprocess.run(
        [*command, *container["args"]], env=variables | own, cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_mission_with_the_right_count_is_a_success(
    access_to_a_worker: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    variables, url = access_to_a_worker
    done = run(variables, tmp_path, {"url": url, "secrets": SECRETS})
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout


@pytest.mark.parametrize(
    ("path", "secrets"),
    [("letter.txt", SECRETS + 1), ("missing.txt", 0)],
    ids=["another count", "a mission that fails"],
)
def test_anything_else_is_a_failure(
    access_to_a_worker: tuple[dict[str, str], str], tmp_path: Path, path: str, secrets: int
) -> None:
    variables, url = access_to_a_worker
    assert run(variables, tmp_path, {"url": url.replace("letter.txt", path), "secrets": secrets}).returncode == 1


def test_no_worker_is_a_failure_in_time(
    access_to_a_worker: tuple[dict[str, str], str], tmp_path: Path, redis_server: EmbeddedRedis
) -> None:
    variables, url = access_to_a_worker
    alone = variables | {"DECODER_REDIS_URL": redis_server.url}
    done = run(alone, tmp_path, {"url": url, "secrets": SECRETS, "timeoutSeconds": 1})
    assert done.returncode != 0
