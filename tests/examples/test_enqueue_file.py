from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from examples.enqueue_file import MAX_LINE_BYTES, read_lines
from mission.settings import Settings
from producer import MissionClient
from tests.conftest import wait_for
from tests.examples.conftest import EXAMPLES, NOWHERE, Examples
from tests.integration.conftest import StartWorker
from worker.local.embedded import EmbeddedRedis
from worker.local.sample_site import SampleSite

pytestmark = pytest.mark.full

LOADER = "enqueue_file.py"


def urls(folder: Path, count: int, site: str = "https://docs.example.com") -> str:
    (folder / "urls.txt").write_text("".join(f"{site}/letter.txt?n={n}\n" for n in range(count)))
    return "urls.txt"


def summary(printed: str) -> tuple[int, int, int]:
    told = json.loads(printed)
    return told["accepted"], told["duplicates"], told["refused"]


def test_every_line_becomes_a_mission_that_a_worker_does(
    examples: Examples, start_worker: StartWorker, site: SampleSite, mission_client: MissionClient
) -> None:
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    done = examples.run(LOADER, urls(examples.folder, 40, site.url))
    assert (done.returncode, done.stderr) == (0, "")
    assert summary(done.stdout) == (40, 0, 0)
    wait_for(lambda: mission_client.stats().succeeded == 40, seconds=60, what="40 missions")
    assert [path.name for path in examples.folder.iterdir()] == ["urls.txt"]


def test_after_ctrl_c_a_rerun_admits_the_rest_and_nothing_twice(
    examples: Examples, mission_client: MissionClient
) -> None:
    file = urls(examples.folder, 3000)
    with examples.start(LOADER, file, DECODER_QUOTA="2500/day") as process:
        wait_for(lambda: mission_client.stats().queued == 2500, what="the quota to be used up")
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted; run it again to go on\n")
    # What was tried when it was pressed is not counted in full: the rest of it is a duplicate the next time.
    assert 2048 <= summary(printed)[0] <= 2500
    again = examples.run(LOADER, file)
    assert (again.returncode, summary(again.stdout)) == (0, (500, 2500, 0))
    assert mission_client.stats().queued == 3000


def test_killed_it_goes_on_the_same_way(examples: Examples, mission_client: MissionClient) -> None:
    file = urls(examples.folder, 3000)
    with examples.start(LOADER, file, DECODER_QUOTA="2500/day") as process:
        wait_for(lambda: mission_client.stats().queued == 2500, what="the quota to be used up")
        process.kill()
    again = examples.run(LOADER, file)
    assert (again.returncode, summary(again.stdout)) == (0, (500, 2500, 0))


def test_a_changed_file_and_a_run_of_another_name_are_new(examples: Examples) -> None:
    file = urls(examples.folder, 3)
    assert summary(examples.run(LOADER, file).stdout) == (3, 0, 0)
    os.utime(examples.folder / file, ns=(1, 1))
    assert summary(examples.run(LOADER, file).stdout) == (3, 0, 0)
    assert summary(examples.run(LOADER, file, "--run", "a").stdout) == (3, 0, 0)
    assert summary(examples.run(LOADER, file, "--run", "a").stdout) == (0, 3, 0)


def test_refused_lines_are_written_for_their_owner_alone(examples: Examples) -> None:
    lines = ["https://docs.example.com/a", "", "ftp://docs.example.com/", "https://u:pa55@docs.example.com/", "b\xffad"]
    (examples.folder / "urls.txt").write_bytes("\r\n".join(lines).encode("latin-1"))
    left = examples.folder / "urls.txt.refused"
    left.write_text("of the last time")
    left.chmod(0o644)
    done = examples.run(LOADER, "urls.txt")
    assert (done.returncode, summary(done.stdout)) == (1, (1, 0, 3))
    assert left.stat().st_mode & 0o777 == 0o600
    assert [line.split("\t") for line in left.read_text().splitlines()] == [
        ["3", "scheme_not_allowed", lines[2]],
        ["4", "credentials_in_url", lines[3]],
        ["5", "invalid_url", "b\\xffad"],
    ]
    assert "pa55" not in done.stdout + done.stderr


def test_a_full_queue_is_waited_out(
    examples: Examples, start_worker: StartWorker, site: SampleSite, mission_client: MissionClient
) -> None:
    file = urls(examples.folder, 30, site.url)
    with examples.start(LOADER, file, DECODER_QUEUE_LIMIT="20") as process:
        wait_for(lambda: mission_client.stats().queued == 20, what="the queue to be full")
        start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
        printed, _ = process.communicate(timeout=90)
    assert (process.returncode, summary(printed)) == (0, (30, 0, 0))


def test_an_outage_of_redis_is_waited_out(examples: Examples) -> None:
    file = urls(examples.folder, 3005)
    with EmbeddedRedis() as server:
        settings = Settings.from_env(redis_url=server.url, url_key=examples.env["DECODER_URL_KEY"])
        client = MissionClient(settings)
        env = {"DECODER_REDIS_URL": server.url, "DECODER_QUOTA": "3000/hour"}
        with examples.start(LOADER, file, **env) as process:
            wait_for(lambda: client.stats().queued >= 3000, what="the quota to be used up")
            server.kill()
            server.start()
            printed, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        assert sum(summary(printed)) == 3005
        assert client.stats().queued == 3005


def test_when_nothing_is_admitted_for_too_long_it_says_why_and_how_to_go_on(examples: Examples) -> None:
    file = urls(examples.folder, 5)
    done = examples.run(LOADER, file, "--patience", "0", DECODER_REDIS_URL=NOWHERE)
    assert (done.returncode, summary(done.stdout)) == (1, (0, 0, 0))
    assert done.stderr.startswith("error: store_unavailable: ")
    assert done.stderr.endswith("; run it again to go on\n")
    done = examples.run(LOADER, file, "--patience", "0", DECODER_QUOTA="2/day")
    assert (done.returncode, summary(done.stdout)) == (1, (2, 0, 0))
    assert "quota_exceeded" in done.stderr


def test_a_missing_file_and_a_missing_setting_are_usage_errors(examples: Examples) -> None:
    missing = examples.run(LOADER, "nowhere.txt")
    assert missing.returncode == 2
    assert "nowhere.txt" in missing.stderr
    unset = examples.run(LOADER, urls(examples.folder, 1), DECODER_URL_KEY="")
    assert unset.returncode == 2
    assert "DECODER_URL_KEY" in unset.stderr


def test_a_person_sees_its_progress(examples: Examples) -> None:
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, str(EXAMPLES / LOADER), urls(examples.folder, 100)]
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": terminal, "timeout": 60, "check": True}
    subprocess.run(command, cwd=examples.folder, env=examples.env, **options)
    shown = os.read(ours, 65536).decode()
    os.close(terminal)
    os.close(ours)
    assert "100%" in shown


def test_of_an_endless_line_only_the_beginning_is_held() -> None:
    file = io.BytesIO(b"a\n" + b"x" * (5 * MAX_LINE_BYTES) + b"https://docs.example.com/\nb")
    assert [(number, len(text)) for number, text in read_lines(file)] == [(1, 1), (2, MAX_LINE_BYTES), (3, 1)]


@pytest.mark.parametrize("text", [b"", b"\n\r\n\n"])
def test_a_file_without_urls_is_no_error(text: bytes) -> None:
    assert list(read_lines(io.BytesIO(text))) == []
