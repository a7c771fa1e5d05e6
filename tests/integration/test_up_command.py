"""`decoder up`, started by a person, and used from another shell."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import wait_for
from tests.observability.tools import program, rules
from tests.processes import command_line, listening_addresses, processes_in, started

pytestmark = pytest.mark.full  # its fixture is expensive: one process for all of these

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LOOPBACK = {"0100007F"}
FILES = ("producer.env", "celery.env", "reader.env", "operator.env", "identity.key", "url.key")


@dataclass(frozen=True, slots=True)
class Up:
    process: subprocess.Popen[str]
    folder: Path
    text: str

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    def shell(self, command: str, login: str = "producer") -> subprocess.CompletedProcess[str]:
        """Run a line in a shell that has sourced the file `up` wrote for a login."""
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}
        script = f". {self.find(rf'^  [.] (.*{login}.env)$')}; {command}"
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=env, timeout=100, check=False)


@contextmanager
def up(folder: Path, *options: str) -> Iterator[Up]:
    command = [sys.executable, "-m", "worker", "up", "--data", str(folder), *options]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("ready"):
                    break
            text = "".join(lines)
            assert re.search("^ready", text, re.MULTILINE), text
            yield Up(process, folder, text)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up") / "data") as first:
        yield first


def test_another_shell_enqueues_and_reads_what_was_found(running: Up) -> None:
    site = running.find(r"^Sample site +(\S+)/  \(a list")
    enqueued = running.shell(f"mission enqueue --wait --json '{site}/letter.txt?token=tell-no-one'")
    assert enqueued.returncode == 0, enqueued.stderr
    mission_id = re.search(r'"id": "([0-9a-f-]+)"', enqueued.stdout)
    assert mission_id
    revealed = running.shell(f"mission reveal {mission_id[1]} --reason 'a test' --json", "reader")
    assert "correct-horse-battery-staple" in revealed.stdout, revealed.stderr
    files = [path for path in running.folder.rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    assert any(path.suffix == ".aof" for path in files)
    assert mission_id[1].encode() in kept
    assert b"tell-no-one" not in kept
    assert b"correct-horse" not in kept


def test_each_login_does_its_own_work_and_no_other(running: Up) -> None:
    site = running.find(r"^Sample site +(\S+)/  \(a list")
    ticket = running.shell(f"mission enqueue --wait --json {site}/letter.txt")
    mission_id = re.search(r'"id": "([0-9a-f-]+)"', ticket.stdout)
    assert mission_id, ticket.stderr
    reveal = f"mission reveal {mission_id[1]} --reason 'a test' --identity {running.folder}/identity.key"
    for login in ("producer", "operator"):
        refused = running.shell(reveal, login)
        assert (refused.returncode, refused.stdout) == (1, ""), login
        assert "this Redis user may not do that" in refused.stderr
    assert running.shell(f"mission forget {mission_id[1]} --reason 'a test'", "reader").returncode == 1
    assert running.shell(f"mission forget {mission_id[1]} --reason 'a test'", "operator").returncode == 0
    assert running.shell("decoder audit verify", "operator").returncode == 0


def test_a_client_that_only_speaks_celery_follows_a_mission_with_its_login(running: Up) -> None:
    site = running.find(r"^Sample site +(\S+)/  \(a list")
    done = running.shell(f"python {EXAMPLES}/celery_client.py {site}/letter.txt", "celery")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"state": "succeeded"' in done.stdout
    assert running.shell("echo $DECODER_REDIS_URL", "celery").stdout == "\n"


def test_the_web_app_enqueues_with_one_login_and_reads_with_the_other(running: Up) -> None:
    site = running.find(r"^Sample site +(\S+)/  \(a list")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(running.folder)}
    script = f". {running.folder}/producer.env; exec python {EXAMPLES}/web/app.py --port 0 --reader {running.folder}/reader.env"
    with started(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as app:
        assert app.stdout is not None
        home = app.stdout.readline().strip()

        def page(address: str, **form: str) -> tuple[str, str]:
            """The final URL, and the page."""
            data = urllib.parse.urlencode(form).encode() if form else None
            with urllib.request.urlopen(address, data, timeout=30) as answer:
                return answer.url, answer.read().decode()

        mission, _ = page(f"{home}/missions", url=f"{site}/letter.txt")
        wait_for(lambda: ">succeeded<" in page(mission)[1], what="the mission")
        assert "correct-horse-battery-staple" in page(mission, reason="a test")[1]
    shown = running.shell("decoder audit show --json", "operator").stdout
    assert '"redis_user": "reader"' in shown


def test_the_files_that_the_examples_readme_names_are_there(running: Up) -> None:
    text = (EXAMPLES / "README.md").read_text()
    named = re.findall(r"`\. …/([\w./-]+)`", text)
    assert named
    assert [name for name in named if not (running.folder / name).is_file()] == []


def test_worker_and_flower_have_logins_of_their_own(running: Up) -> None:
    logins = set()
    for pid in processes_in(running.folder):
        # A worker hides its environment even from its own user, but root can read it.
        with suppress(PermissionError):
            logins |= set(re.findall(rb"DECODER_REDIS_URL=redis://(\w*):", Path(f"/proc/{pid}/environ").read_bytes()))
    assert logins - {b"worker"} == {b"flower"}


def test_metrics_are_where_it_says(running: Up) -> None:
    pages = {running.find(rf"^Worker {number} +(\S+)  log in") for number in (1, 2)}
    assert len(pages) == 2
    for page in pages:
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert b"decoder_build_info" in answer.read()


def test_the_sample_site_lists_what_there_is_to_try(running: Up) -> None:
    with urllib.request.urlopen(running.find(r"^Sample site +(\S+) +\(a list"), timeout=30) as answer:
        assert b"/letter.txt\n" in answer.read()


def flower_page(running: Up, page: str) -> urllib.request.Request:
    """Send a request with the login that `up` printed."""
    user, password = running.find(r"  user (\S+)"), running.find(r"  password (\S+)")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    url = running.find(r"^Flower +(\S+) ")
    return urllib.request.Request(f"{url}{page}", headers={"Authorization": f"Basic {login}"})


def test_flower_opens_with_its_password_alone(running: Up) -> None:
    request = flower_page(running, "/workers")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request.full_url, timeout=30)
    assert caught.value.code == 401
    caught.value.close()
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_flower_shows_both_workers(running: Up) -> None:
    def workers() -> set[str]:
        with urllib.request.urlopen(flower_page(running, "/workers?json=1"), timeout=30) as answer:
            return {worker["hostname"] for worker in json.load(answer)["data"]}

    wait_for(lambda: len(workers()) == 2, what="both workers in Flower")


def test_every_piece_listens_on_loopback_alone(running: Up) -> None:
    pids = [running.process.pid, *processes_in(running.folder)]
    listening = {pid: listening_addresses(pid) for pid in pids}
    assert len(pids) == 5
    assert set().union(*listening.values()) == LOOPBACK, listening


def test_no_password_or_key_stands_in_a_command_line(running: Up) -> None:
    shown = " ".join(command_line(pid) for pid in [running.process.pid, *processes_in(running.folder)])
    env_file = "".join((running.folder / f"{login}.env").read_text() for login in ("producer", "reader", "operator"))
    redis_password = re.search(r"redis://producer:([^@]+)@", env_file)
    assert redis_password
    assert redis_password[1] not in shown
    assert running.find(r"  password (\S+)") not in shown
    assert "decoder-url-key" not in shown + env_file


def test_its_files_are_open_to_this_user_alone(running: Up) -> None:
    assert running.folder.stat().st_mode & 0o077 == 0
    assert all((running.folder / name).stat().st_mode & 0o077 == 0 for name in FILES)


def test_two_side_by_side_both_work_and_leave_no_process_and_no_folder(tmp_path: Path) -> None:
    command, env = [sys.executable, "-m", "worker", "up"], {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as one,
        started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as other,
    ):
        for process in (one, other):
            assert process.stdout is not None
            assert any(line.startswith("ready") for line in process.stdout), process.communicate()
        assert len(list(tmp_path.iterdir())) == 2
        one.send_signal(signal.SIGINT)
        other.send_signal(signal.SIGTERM)
        assert [process.communicate(timeout=60) for process in (one, other)] == [("\nshutting down\n", "")] * 2
        assert (one.returncode, other.returncode) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_stopped_while_it_starts_it_leaves_nothing_either(tmp_path: Path) -> None:
    command, env = [sys.executable, "-m", "worker", "up"], {**os.environ, "TMPDIR": str(tmp_path)}
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        wait_for(lambda: processes_in(tmp_path), what="the first piece")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_a_second_one_on_the_same_data_is_refused(running: Up) -> None:
    command = [sys.executable, "-m", "worker", "up", "--data", str(running.folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "another decoder uses this folder" in result.stderr


def test_sigterm_stops_everything_and_the_data_is_there_the_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with up(folder) as first:
        site = first.find(r"^Sample site +(\S+)/  \(a list")
        before = first.shell(f"mission enqueue --wait {site}/plain.txt; mission stats --json").stdout
        first.process.send_signal(signal.SIGTERM)
        first.process.communicate(timeout=60)
        assert first.process.returncode == 0
        assert processes_in(folder) == []
    with up(folder) as second:
        stats = second.shell("mission stats --json").stdout
    assert '"succeeded": 1' in stats
    assert stats.strip() in before


def test_when_a_piece_ends_by_itself_everything_stops_with_its_last_lines(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with up(folder) as running_up:
        worker = next(pid for pid in processes_in(folder) if "-m worker worker" in command_line(pid))
        os.kill(worker, signal.SIGKILL)
        output, _ = running_up.process.communicate(timeout=60)
        assert running_up.process.returncode == 1
        assert re.search(r"error: the worker-[12] ended unexpectedly \(exit code -9\)", output)
        wait_for(lambda: processes_in(folder) == [], what="the other pieces to end")


def test_watched_its_prometheus_scrapes_both_workers_and_evaluates_the_alerts(tmp_path: Path) -> None:
    program("prometheus")
    folder = tmp_path / "data"
    with up(folder, "--watch") as watched:
        url = watched.find(r"^Prometheus +(http://127\.0\.0\.1:\d+)  alerts in \1/alerts$")

        def ask(path: str) -> Any:
            with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=30) as answer:
                return json.load(answer)["data"]

        def value(expression: str) -> list[dict[str, str]]:
            return [series["metric"] for series in ask(f"query?query={quote(expression)}")["result"]]

        wait_for(lambda: len(value('up{job="decoder-worker"} == 1')) == 2, what="a scrape of both workers", seconds=60)
        wait_for(lambda: value("decoder:queue_missions:max"), what="a recorded rule", seconds=60)
        labels = [{**series, "instance": "", "__name__": ""} for series in value("up")]
        assert (
            labels
            == [{"__name__": "", "job": "decoder-worker", "environment": "local", "release": "decoder", "instance": ""}]
            * 2
        )
        groups = ask("rules")["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"} == {
            rule["alert"] for rule in rules("alert")
        }
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert set().union(*map(listening_addresses, processes_in(folder))) == LOOPBACK
        assert any("prometheus" in command_line(pid) for pid in processes_in(folder))
    assert processes_in(folder) == []


def test_watched_where_there_is_no_prometheus_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with up(tmp_path / "data", "--watch") as watched:
        assert "`prometheus`" in watched.find(r"^Prometheus +(not installed: .*)$")
