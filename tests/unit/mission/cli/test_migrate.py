"""`decoder migrate`: one line for each step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from mission.store import library
from worker.cli import main
from worker.local.embedded import EmbeddedRedis


@pytest.fixture(autouse=True)
def _without_functions(client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server without the functions; they are restored for the other tests."""
    client.function_flush()
    monkeypatch.setenv("DECODER_REDIS_URL", redis_url)
    yield
    library.load(client)


def test_says_in_one_line_what_it_did_and_that_nothing_was_left_to_do() -> None:
    first, second = (CliRunner().invoke(main, ["migrate"]) for _ in range(2))
    assert (first.exit_code, first.stdout) == (0, f"functions: loaded library {library.LIBRARY}\n")
    assert (second.exit_code, second.stdout) == (0, f"functions: library {library.LIBRARY} is already loaded\n")


def test_says_it_for_scripts() -> None:
    found = json.loads(CliRunner().invoke(main, ["migrate", "--json"]).stdout)
    assert (found["step"], found["outcome"]) == ("functions", "loaded")


def test_refuses_in_one_line_where_redis_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://127.0.0.1:1/0")
    result = CliRunner().invoke(main, ["migrate"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


@pytest.mark.full
def test_waits_for_a_redis_that_is_still_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedRedis(tmp_path / "valkey") as server:
        monkeypatch.setenv("DECODER_REDIS_URL", server.login_url("deployer"))
        server.stop()
        code = "from worker.__main__ import main; main()"
        with subprocess.Popen(
            [sys.executable, "-c", code, "migrate", "--wait", "60s"], stdout=subprocess.PIPE
        ) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(3)
            server.start()
            assert waiting.stdout
            assert waiting.stdout.read().startswith(b"functions: ")
            assert waiting.wait() == 0
