"""The worker's output shipped by Debian's rsyslog, configured as in docs/logs.md, to a receiver of JSON lines over TCP."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from tests.conftest import wait_for
from tests.observability.tools import program
from worker.local.sample_site import SampleSite
from worker.local.stack import running_worker
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

DOCUMENT = Path(__file__).parents[2] / "docs" / "logs.md"
Line = dict[str, Any]


class Receiver:
    """The central service: accepts lines of JSON over TCP; a context manager. It may restart on the same port."""

    def __init__(self, port: int = 0) -> None:
        self.lines: list[Line] = []
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    receiver.lines.append(json.loads(line))

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def configuration(folder: Path, log: Path, port: int) -> str:
    """The document's configuration, with this test's paths."""
    blocks: list[str] = re.findall(r"```rsyslog\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = blocks
    for shown, own in (
        ("/var/spool/rsyslog", str(folder)),
        ("/var/log/decoder/worker.log", str(log)),
        ("logs.example.com", "127.0.0.1"),
        ('port="5170"', f'port="{port}" action.resumeInterval="1"'),
    ):
        assert shown in text
        text = text.replace(shown, own)
    return text


@contextmanager
def rsyslog(folder: Path, log: Path, port: int) -> Iterator[None]:
    """Debian's rsyslog, as an ordinary user's process."""
    folder.mkdir()
    config = folder / "rsyslog.conf"
    config.write_text(configuration(folder, log, port), encoding="utf-8")
    command = [program("rsyslogd"), "-n", "-f", str(config), "-i", str(folder / "pid")]
    with (folder / "output").open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def read(log: Path) -> list[Line]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_every_line_of_a_worker_arrives_with_every_field_as_it_was(settings: WorkerSettings, tmp_path: Path) -> None:
    url_key = generate_url_key()
    redis_url = settings.redis_url.get_secret_value()
    folder = tmp_path / "worker"
    folder.mkdir(mode=0o700)
    log = folder / "worker.log"
    with Receiver() as receiver, SampleSite() as site, rsyslog(tmp_path / "rsyslog", log, receiver.port):
        values = {
            "redis_url": redis_url,
            "url_key": url_key,
            "recipient": Identity.generate().recipient.text,
            "allowed_hosts": f"127.0.0.1:{site.port}",
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.1/32",
            "metrics_host": "127.0.0.1",
            "metrics_port": "0",
            "log_format": "json",
            "log_level": "debug",
        }
        with running_worker(folder, values) as worker:
            worker.wait_until(r"\bready\b")
            client = MissionClient(Settings.from_env(redis_url=redis_url, url_key=url_key))
            ids = {client.enqueue(sample.url, submitter="team-a").id for sample in site.samples()}
            for mission_id in ids:
                client.wait(mission_id, timeout=60)
        wait_for(lambda: len(receiver.lines) >= len(read(log)), what="the last line to arrive")
        written = read(log)
        assert receiver.lines == written
    stories = [line for line in receiver.lines if line.get("event.action") == "mission-attempt"]
    assert {line["mission.id"] for line in stories} == ids
    assert {line["mission.submitter"] for line in stories} == {"team-a"}
    assert {line["log.logger"].partition(".")[0] for line in written} >= {"decoder", "celery"}


def test_hard_lines_arrive_whole_and_what_is_no_json_in_the_same_shape(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    hard: list[Line] = [
        {"message": 'quotes " and \\ and a line\nbreak and a tab\t, and no ASCII: ü €', "log.level": "info"},
        {"message": "long", "error.stack_trace": "x" * 40_000},
        {"event.duration": 123_456_789_012, "mission.phase.fetch_seconds": 0.000123, "yes": True, "nothing": None},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in hard) + 'Fatal Python error: "Aborted"\n')
    with Receiver() as receiver, rsyslog(tmp_path / "rsyslog", log, receiver.port):
        wait_for(lambda: len(receiver.lines) == 4, what="four lines")
        plain = next(line for line in receiver.lines if "Fatal" in line.get("message", ""))
        assert [line for line in receiver.lines if line is not plain] == hard
        assert (plain["message"], plain["service.name"]) == ('Fatal Python error: "Aborted"', "decoder")
        assert plain["@timestamp"]


def test_lines_written_while_the_receiver_is_away_arrive_when_it_is_back(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"

    def write(numbers: range) -> None:
        with log.open("a") as file:
            file.writelines(json.dumps({"message": "line", "number": number}) + "\n" for number in numbers)

    def arrived(receiver: Receiver) -> Callable[[], bool]:
        return lambda: 149 in {line["number"] for line in receiver.lines}

    with Receiver() as probe:
        port = probe.port
    write(range(100))
    with rsyslog(tmp_path / "rsyslog", log, port):
        write(range(100, 150))
        with Receiver(port) as receiver:
            wait_for(arrived(receiver), what="what had waited")
            assert [line["number"] for line in receiver.lines] == list(range(150))
