"""`decoder migrate`: one line for each step."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner

from mission.store import library
from worker.cli import main


@pytest.fixture(autouse=True)
def _empty(client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client.function_flush()
    monkeypatch.setenv("DECODER_REDIS_URL", redis_url)


def test_says_in_one_line_what_it_did_and_that_nothing_was_left_to_do() -> None:
    first, second = (CliRunner().invoke(main, ["migrate"]) for _ in range(2))
    assert (first.exit_code, first.stdout) == (0, f"functions: loaded library {library.LIBRARY}\n")
    assert (second.exit_code, second.stdout) == (0, f"functions: library {library.LIBRARY} is there\n")


def test_says_it_for_scripts() -> None:
    found = json.loads(CliRunner().invoke(main, ["migrate", "--json"]).stdout)
    assert (found["step"], found["outcome"]) == ("functions", "loaded")


def test_refuses_in_one_line_where_redis_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://127.0.0.1:1/0")
    result = CliRunner().invoke(main, ["migrate"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
