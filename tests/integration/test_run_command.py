"""`decoder run`, started by a person or a script."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.recording import Terminal
from mission.model import MASK
from tests.conftest import wait_for
from tests.processes import processes_in, started
from worker.local.sample_site import OFF_LIMITS, SampleSite

pytestmark = pytest.mark.full

PASSWORD = "correct-horse-battery-staple"
COMMAND = [sys.executable, "-m", "worker", "run"]
CTRL_C = b"\x03"


def environment(folder: Path, variables: dict[str, str]) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(folder)} | variables


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its temporary files in `folder`; it must leave nothing there, whatever happened."""
    env = environment(folder, variables)
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=env, timeout=100, check=False)
    assert processes_in(folder) == []
    assert list(folder.iterdir()) == []
    return result


def rows_of(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def site() -> Iterator[SampleSite]:
    with SampleSite() as running:
        yield running


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def test_the_sample_site_ends_as_intended_with_every_value_masked(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "8 of 8 ended as intended." in result.stdout
    assert MASK in result.stdout
    assert PASSWORD not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_sample_site_is_not_looked_for_through_a_proxy_and_a_url_of_ones_own_is(
    tmp_path: Path, site: SampleSite
) -> None:
    proxy = {"DECODER_EGRESS_PROXY": "http://127.0.0.1:1", "DECODER_EGRESS_RESOLVE": "proxy"}
    assert run(tmp_path, **proxy).returncode == 0
    found = run(tmp_path, "--json", "--timeout=3s", f"{site.url}/letter.txt", **proxy)
    (row,) = rows_of(found)
    assert (found.returncode, row["secrets"]) == (1, [])


def test_json_has_a_line_for_each_sample_with_what_became_of_it(tmp_path: Path) -> None:
    rows = rows_of(run(tmp_path, "--json", "--show"))
    by_name = {row["url"].rpartition("/")[2] if row["url"] != OFF_LIMITS else "off limits": row for row in rows}
    story = {name: (row["state"], row["reason"], len(row["secrets"])) for name, row in by_name.items()}
    assert story == {
        "letter.txt": ("succeeded", None, 3),
        "map.txt": ("succeeded", None, 2),
        "broken.txt": ("succeeded", None, 1),
        "plain.txt": ("succeeded", None, 0),
        "busy.txt": ("succeeded", None, 2),
        "moved.txt": ("succeeded", None, 3),
        "missing.txt": ("failed", "http_client_error", 0),
        "off limits": ("failed", "host_not_allowed", 0),
    }
    assert all(set(row) == {"url", "id", "state", "attempts", "reason", "complete", "cut", "secrets"} for row in rows)
    assert by_name["letter.txt"]["secrets"][1] == {
        "detector": "marker",
        "category": "PASSWORD",
        "value": PASSWORD,
        "line": 3,
        "column": 31,
        "confidence": "certain",
        "path": "",
        "encoding": "",
        "count": 1,
    }


def test_a_url_given_by_hand_is_allowed_for_this_run_alone(tmp_path: Path, site: SampleSite) -> None:
    result = run(tmp_path, f"{site.url}/map.txt?token=mine", "--json")
    (row,) = rows_of(result)
    assert result.returncode == 0, result.stderr
    assert (row["url"], row["state"]) == (f"{site.url}/map.txt?token=mine", "succeeded")
    assert [secret["value"] for secret in row["secrets"]] == [MASK, MASK]


def test_urls_that_fail_or_are_refused_are_rows_with_their_reason_and_exit_code_1(
    tmp_path: Path, site: SampleSite
) -> None:
    urls = [f"{site.url}/plain.txt", f"{site.url}/missing.txt", "nonsense", "http://user:word@127.0.0.1/"]
    result = run(tmp_path, "--json", *urls)
    assert result.returncode == 1
    assert [(row["url"], row["state"], row["reason"]) for row in rows_of(result)] == [
        (urls[0], "succeeded", None),
        (urls[1], "failed", "http_client_error"),
        (urls[2], "refused", "invalid_url"),
        (urls[3], "refused", "credentials_in_url"),
    ]


def test_people_get_a_table_and_progress_beside_it(tmp_path: Path, site: SampleSite) -> None:
    result = run(tmp_path, "--show", f"{site.url}/letter.txt", "nonsense")
    assert result.stdout.splitlines()[0].split() == ["STATE", "ATTEMPTS", "SECRETS", "REASON", "DOCUMENT"]
    assert PASSWORD in result.stdout
    assert "1 of 2 succeeded." in result.stdout
    assert f"succeeded                     {site.url}/letter.txt" in result.stderr


def test_a_terminal_shows_each_mission_while_it_runs_and_then_the_table(tmp_path: Path) -> None:
    terminal = Terminal(COMMAND, 120, 30, TMPDIR=str(tmp_path))
    shown = [terminal.text for _ in terminal.frames()]
    during = next(text for text in shown if "/8 missions" in text and "running" in text)
    assert during.splitlines()[0].split() == ["STATE", "ATTEMPTS", "SECRETS", "REASON", "DOCUMENT"]
    assert during.count("http://") == 8
    assert terminal.process.returncode == 0
    assert "8 of 8 ended as intended." in shown[-1]
    assert "/8 missions" not in shown[-1]
    assert [line.split()[-1].rpartition("/")[2] for line in shown[-1].splitlines()[1:9]] == [
        line.split()[-1].rpartition("/")[2] for line in during.splitlines()[1:9]
    ]
    assert not terminal.screen.cursor.hidden


def test_on_a_terminal_ctrl_c_leaves_a_sane_terminal_and_nothing_else(
    tmp_path: Path, silent_server: socket.socket
) -> None:
    url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/"
    terminal = Terminal([*COMMAND, url], 80, 24, TMPDIR=str(tmp_path))
    hidden = False
    for _ in terminal.frames():
        if not hidden and "running" in terminal.text:
            hidden = terminal.screen.cursor.hidden
            terminal.type(CTRL_C)
    assert hidden
    assert (terminal.process.returncode, terminal.text) == (130, "interrupted")
    assert not terminal.screen.cursor.hidden
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_no_url_named_stays_closed(tmp_path: Path, site: SampleSite) -> None:
    """Only the given address on loopback is allowed, not the whole network."""
    urls = [f"http://127.0.0.1:{site.port}/plain.txt", f"http://other.localhost:{site.port}/plain.txt"]
    _, other = rows_of(run(tmp_path, "--json", *urls, DECODER_MAX_ATTEMPTS="1"))
    assert other["state"] != "succeeded"


def test_a_mission_that_does_not_end_in_time_is_told_as_it_stands(tmp_path: Path, silent_server: socket.socket) -> None:
    url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/"
    result = run(tmp_path, "--json", "--timeout", "3s", url)
    (row,) = rows_of(result)
    assert result.returncode == 1
    assert (row["url"], row["secrets"]) == (url, [])
    assert row["state"] in ("queued", "running", "retrying")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_leaves_nothing(
    tmp_path: Path, silent_server: socket.socket, number: signal.Signals
) -> None:
    url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/"
    env = environment(tmp_path, {})
    with started([*COMMAND, url], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        connection, _ = silent_server.accept()  # now all parts run
        with connection:
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_killed_it_takes_its_children_with_it(tmp_path: Path, silent_server: socket.socket) -> None:
    url = f"http://127.0.0.1:{silent_server.getsockname()[1]}/"
    with started([*COMMAND, url], env=environment(tmp_path, {}), stderr=subprocess.DEVNULL) as process:
        connection, _ = silent_server.accept()
        with connection:
            assert len(processes_in(tmp_path)) == 2
            process.kill()
            wait_for(lambda: not processes_in(tmp_path), what="Valkey and the worker to end")


def test_a_worker_that_does_not_start_is_told_with_its_last_lines(tmp_path: Path, site: SampleSite) -> None:
    result = run(tmp_path, f"{site.url}/plain.txt", DECODER_CA_FILE="/nowhere/ca.pem")
    assert (result.returncode, result.stdout) == (1, "")
    assert "error: the worker ended unexpectedly" in result.stderr
    assert "DECODER_CA_FILE" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "line"),
    [
        ([], {"DECODER_DEADLINE": "soon"}, "error: DECODER_DEADLINE: got 'soon'; takes seconds"),
        (["--timeout", "soon"], {}, "Invalid value for '--timeout': 'soon' is not a duration"),
    ],
)
def test_what_it_cannot_start_with_is_refused_with_exit_code_2(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], line: str
) -> None:
    result = run(tmp_path, *arguments, **variables)
    assert (result.returncode, result.stdout) == (2, "")
    assert line in result.stderr
