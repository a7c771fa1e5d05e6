"""The health file: written at each beat, read by a probe that trusts nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker.observe import health
from worker.observe.health import Heartbeat, is_live, is_ready


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


def test_a_beat_makes_the_worker_live_and_ready(file: Path) -> None:
    Heartbeat(file).beat()
    assert is_live(file, time.time(), 60)
    assert is_ready(file, time.time(), 60)


def test_without_beats_it_is_not_live_for_long(file: Path) -> None:
    Heartbeat(file).beat()
    assert not is_live(file, time.time() + 61, 60)
    assert not is_ready(file, time.time() + 61, 60)


def test_a_clock_set_back_a_little_does_not_kill_it(file: Path) -> None:
    Heartbeat(file).beat()
    assert is_live(file, time.time() - 2, 60)


def test_beats_close_together_write_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BEAT_SECONDS", 3600.0)
    heart = Heartbeat(file)
    heart.beat()
    written = file.stat().st_ino
    heart.beat()
    assert file.stat().st_ino == written


def test_a_later_beat_replaces_the_file_in_one_piece(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.0)
    heart = Heartbeat(file)
    heart.beat()
    before = file.open()
    heart.beat(ready=False)
    with before:
        assert json.load(before)["ready"] is True
    assert json.loads(file.read_text())["ready"] is False
    assert os.listdir(file.parent) == [file.name]


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Heartbeat(None).beat()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_away_does_not_stop_the_worker(tmp_path: Path) -> None:
    Heartbeat(tmp_path / "missing" / "health").beat()
    assert not is_live(tmp_path / "missing" / "health", time.time(), 60)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"live_at": "now"}', '{"live_at": null}', "\xff"])
def test_a_file_that_makes_no_sense_is_not_live(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    assert not is_live(file, time.time(), 60)
    assert not is_ready(file, time.time(), 60)


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker.observe.health", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_probe_tells_live_from_ready(file: Path) -> None:
    assert probe(str(file), "--live").returncode == 1
    Heartbeat(file).beat(ready=False)
    assert probe(str(file), "--live").returncode == 0
    assert probe(str(file), "--ready").returncode == 1


def test_the_probe_takes_an_age(file: Path) -> None:
    file.write_text(json.dumps({"live_at": time.time() - 100, "ready": True}))
    assert probe(str(file), "--ready", "--max-age", "10000").returncode == 0
    found = probe(str(file), "--ready", "--max-age", "60")
    assert found.returncode == 1
    assert found.stderr.startswith("not ready: ")


def test_the_probe_of_several_processes_asks_each(file: Path) -> None:
    health.announce(file, 2)
    Heartbeat(health.file_of(file, 0)).beat()
    found = probe(str(file), "--live")
    assert (found.returncode, f"{file}.1" in found.stderr) == (1, True)
    Heartbeat(health.file_of(file, 1)).beat(ready=False)
    assert (probe(str(file), "--live").returncode, probe(str(file), "--ready").returncode) == (0, 1)


def test_one_process_that_follows_several_is_asked_alone(file: Path) -> None:
    health.announce(file, 2)
    Heartbeat(file).beat()
    assert probe(str(file), "--ready").returncode == 0


@pytest.mark.parametrize("count", ["0", "-1", "true", "257", "1e9", '"2"', "null"])
def test_a_number_of_processes_that_makes_no_sense_is_not_live(file: Path, count: str) -> None:
    file.write_text(f'{{"processes": {count}}}')
    assert health.main([str(file), "--live"]) == 1


@pytest.mark.parametrize("arguments", [[], ["--live"], ["f"], ["f", "--dead"], ["f", "--live", "--max-age", "soon"]])
def test_the_probe_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    found = probe(*arguments)
    assert found.returncode == 2
    assert found.stderr.startswith("usage: ")


def test_the_probe_imports_little() -> None:
    program = "import sys, worker.observe.health; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mission", "celery", "redis", "pydantic", "click", "requests"} & set(loaded)
