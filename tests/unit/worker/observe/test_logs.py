"""Log lines: their format, what they show of a mission, and what they never show."""

import io
import json
import logging
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from celery import Celery

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from tests.processes import started
from worker.observe import logs
from worker.observe.metrics import PHASES

URL = "https://host.example/path?token=hunter2"
LEAKS = ("hunter2", "host.example", "/path")

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """`logs.configure` on the test's own stream; everything is restored at the end."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)

    class Stream(io.StringIO):
        """All lines, including pending ones."""

        def getvalue(self) -> str:
            root.handlers[0].flush()
            return super().getvalue()

        def __init__(self) -> None:
            super().__init__()
            self.pieces: list[str] = []

        def write(self, text: str) -> int:
            self.pieces.append(text)
            return super().write(text)

    def start(level: str = "info", fmt: str = "json", *, threads: bool = True) -> io.StringIO:
        stream = Stream()
        logs.configure(level, fmt, stream, threads=threads)
        return stream

    yield start
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def out(configure: Configure) -> io.StringIO:
    return configure()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def only(out: io.StringIO) -> dict[str, Any]:
    (line,) = lines(out)
    return line


def own() -> logging.Logger:
    return logging.getLogger("decoder.test")


def leaks(out: io.StringIO) -> list[str]:
    return [leak for leak in LEAKS if leak in out.getvalue()]


def test_a_record_is_one_json_object_with_ecs_names(out: io.StringIO) -> None:
    own().warning("%d of %s", 3, "them")
    line = only(out)
    assert list(line)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    assert line["log.level"] == "warning"
    assert line["message"] == "3 of them"
    assert line["log.logger"] == "decoder.test"
    assert line["service.name"] == "decoder"
    assert line["service.version"]
    assert isinstance(line["process.pid"], int)
    assert line["process.thread.name"] == threading.current_thread().name


def test_the_time_is_rfc_3339_in_utc(out: io.StringIO) -> None:
    own().info("now")
    text = only(out)["@timestamp"]
    assert text.endswith("Z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(minutes=5)


def test_extra_fields_of_an_own_record_are_its_fields(out: io.StringIO) -> None:
    own().info("mission succeeded", extra={"event.action": "mission-attempt", "event.duration": 12})
    line = only(out)
    assert (line["event.action"], line["event.duration"]) == ("mission-attempt", 12)


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", 'a "quoted" b', "\x00\x1b[2J", "grüße 🗝", "\ud800", "\u2028"])
def test_no_text_breaks_the_line(text: str) -> None:
    # Formatted by hand: pytest's own capture cannot carry a lone surrogate between processes.
    line = logs.EcsFormatter().format(logging.makeLogRecord({"name": "decoder", "msg": text}))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == text


def test_a_message_without_end_is_cut(out: io.StringIO) -> None:
    own().info("x" * 1_000_000)
    assert len(out.getvalue()) < 10_000


def test_arguments_that_do_not_fit_leave_the_template(out: io.StringIO) -> None:
    own().info("%d of them", "three")
    assert only(out)["message"] == "%d of them"


def test_every_line_within_a_mission_has_what_is_known_of_it_by_then(out: io.StringIO) -> None:
    with logs.mission_context("abc", 2, "billing"):
        own().info("in")
        logs.add_to_mission_context("mission.allowed_by", "*.example.com")
        logging.getLogger("celery.worker").info("in a library")
    own().info("out")
    inside, library, outside = lines(out)
    expected = {"mission.id": "abc", "mission.attempt": 2, "mission.submitter": "billing"}
    assert expected.items() <= inside.items()
    assert (expected | {"mission.allowed_by": "*.example.com"}).items() <= library.items()
    assert not (expected.keys() | {"mission.allowed_by"}) & outside.keys()


def test_missions_side_by_side_do_not_mix(out: io.StringIO) -> None:
    meeting = threading.Barrier(4)

    def work(number: int) -> None:
        with logs.mission_context(str(number), number, "me"):
            meeting.wait(60)
            own().info("%d", number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert {(line["message"], line["mission.id"]) for line in lines(out)} == {(str(n), str(n)) for n in range(4)}


def test_a_foreign_exception_is_its_type_and_its_frames_without_text_or_values(out: io.StringIO) -> None:
    try:
        try:
            raise OSError(URL)
        except OSError as error:
            raise requests.ConnectionError(URL) from error
    except requests.ConnectionError:
        own().exception("mission met something unexpected")
    line = only(out)
    assert line["error.type"] == "requests.exceptions.ConnectionError"
    assert "error.message" not in line
    assert "OSError" in line["error.stack_trace"]
    assert "test_logs.py:" in line["error.stack_trace"]
    assert "test_a_foreign_exception" in line["error.stack_trace"]
    assert leaks(out) == []


def test_an_own_exception_tells_its_text(out: io.StringIO) -> None:
    try:
        raise SettingsError("DECODER_X: got nothing; takes something")
    except SettingsError:
        own().exception("refused")
    line = only(out)
    assert line["error.type"] == "mission.errors.SettingsError"
    assert line["error.message"] == "DECODER_X: got nothing; takes something"


def test_an_exception_whose_cause_is_suppressed_hides_it(out: io.StringIO) -> None:
    try:
        try:
            raise ValueError(URL)
        except ValueError:
            raise MissionFailed(Reason.INVALID_URL) from None
    except MissionFailed:
        own().exception("refused")
    assert "ValueError" not in only(out)["error.stack_trace"]


def test_endless_recursion_has_a_short_stack(out: io.StringIO) -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError:
        own().exception("too deep")
    assert len(only(out)["error.stack_trace"].splitlines()) < 50


def test_exc_info_without_an_exception_is_no_error(out: io.StringIO) -> None:
    own().error("nothing is wrong", exc_info=True)
    assert "error.type" not in only(out)


@pytest.mark.parametrize(
    ("template", "args", "shown"),
    [
        ("Connected to %s", ("redis://:**@10.0.0.1:6379/0",), "Connected to redis://:**@10.0.0.1:6379/0"),
        ("Trying again in %.2f seconds (%s/%s)", (2.0, 1, 100), "Trying again in 2.00 seconds (1/100)"),
        ("%s ready.", ("celery@host-1",), "celery@host-1 ready."),
        ("body was: %s", (f'{{"args": ["{URL}"]}}',), "body was: …"),
        ("body was: %r", (b"hunter2",), "body was: …"),
        ("headers %s", ({"authorization": "hunter2 x"},), "headers {'authorization': …}"),
        ("a %s", (["hunter2"],), "a …"),
        ("GET " + URL, (), "GET https:/…"),
        ("%s", (ValueError(URL),), "ValueError"),
        (
            "Cannot connect: %r",
            (redis.ConnectionError("Error 111"),),
            "Cannot connect: redis.exceptions.ConnectionError: Error 111",
        ),
    ],
)
def test_of_a_foreign_record_the_template_and_harmless_arguments_are_shown(
    out: io.StringIO, template: str, args: tuple[object, ...], shown: str
) -> None:
    logging.getLogger("kombu.test").warning(template, *args)
    assert only(out)["message"] == shown
    assert leaks(out) == []


def test_extra_fields_of_a_foreign_record_are_left_out(out: io.StringIO) -> None:
    logging.getLogger("celery.worker.consumer").info("received", extra={"data": {"args": f"('{URL}',)"}})
    assert "data" not in only(out)
    assert leaks(out) == []


@pytest.mark.parametrize("name", ["urllib3", "urllib3.connectionpool", "requests.sessions"])
def test_libraries_that_say_where_a_mission_goes_are_silent(out: io.StringIO, name: str) -> None:
    logging.getLogger(name).critical("Retrying %s", URL)
    assert out.getvalue() == ""


def test_libraries_are_not_debugged(configure: Configure) -> None:
    out = configure("debug")
    logging.getLogger("kombu.test").debug("details")
    own().debug("details of our own")
    assert only(out)["message"] == "details of our own"


@pytest.mark.parametrize("name", ["celery.worker.strategy", "celery.app.trace"])
def test_celerys_lines_for_each_message_are_heard_at_debug_alone(name: str, configure: Configure) -> None:
    out = configure("info")
    logging.getLogger(name).info("received")
    logging.getLogger(name).error("raised")
    assert only(out)["message"] == "raised"
    out = configure("debug")
    logging.getLogger(name).info("received")
    assert only(out)["message"] == "received"


def test_a_line_has_the_mission_of_its_moment_though_it_is_written_later(out: io.StringIO) -> None:
    for number in range(50):
        with logs.mission_context(str(number), 1, "me"):
            own().info("in")
    assert [line["mission.id"] for line in lines(out)] == [str(number) for number in range(50)]


def test_the_level_is_that_of_the_setting(configure: Configure) -> None:
    out = configure("warning")
    own().info("not heard")
    own().warning("heard")
    assert only(out)["message"] == "heard"


def test_what_celery_tells_of_a_task_holds_no_argument_result_or_exception_text(configure: Configure) -> None:
    out = configure("debug")
    app = Celery("test", set_as_current=False)

    @app.task(name="decoder.submit", shared=False)  # type: ignore[untyped-decorator]  # celery has no types
    def submit(url: str, *, fail: bool) -> str:
        if fail:
            raise RuntimeError(url)
        return url

    submit.apply(args=[URL], kwargs={"fail": False}, task_id="task-1")
    submit.apply(args=[URL], kwargs={"fail": True}, task_id="task-2")
    good, bad = lines(out)
    assert good["message"].startswith("Task decoder.submit[task-1] succeeded in ")
    assert bad["message"].startswith("Task decoder.submit[task-2] raised unexpected: …")
    assert bad["error.type"] == "RuntimeError"
    assert leaks(out) == []


def test_text_for_people_is_one_line_with_the_same_content(configure: Configure) -> None:
    out = configure("info", "text")
    with logs.mission_context("abc", 1, "me"):
        try:
            raise ValueError(URL)
        except ValueError:
            own().exception("two\nlines", extra={"event.action": "test"})
    (line,) = out.getvalue().splitlines()
    assert " ERROR    decoder.test: two\\nlines  mission.id=abc" in line
    assert "event.action=test" in line
    assert "error.type=ValueError" in line
    assert leaks(out) == []


@pytest.mark.parametrize("letter", ["a", "ä", "\N{OLD PERSIAN SIGN A}"])
def test_other_processes_write_between_lines_and_never_into_one(configure: Configure, letter: str) -> None:
    """A pipe takes up to PIPE_BUF bytes atomically (pipe(7))."""
    out = configure(fmt="text")
    for number in range(200):
        logging.getLogger("decoder.x").info("%d %s", number, letter * (number % 7 * 100))
    assert out.getvalue().count("\n") == 200
    pieces = [piece for piece in vars(out)["pieces"] if piece]
    assert all(piece.endswith("\n") for piece in pieces)
    assert max(len(piece.encode()) for piece in pieces) <= select.PIPE_BUF
    assert len(pieces) < 200


def test_a_process_that_is_to_fork_writes_each_line_at_once_by_no_thread(configure: Configure) -> None:
    before = threading.active_count()
    out = configure(threads=False)
    for number in range(3):
        logging.getLogger("decoder.x").info("%d", number)
    assert threading.active_count() == before
    assert [json.loads(piece)["message"] for piece in vars(out)["pieces"]] == ["0", "1", "2"]


def test_configuring_again_does_not_double_the_lines(configure: Configure) -> None:
    configure()
    out = configure()
    own().info("once")
    assert len(lines(out)) == 1


PRELUDE = f"import logging, os, sys, threading\nfrom worker.observe import logs\nURL = {URL!r}\nlogs.configure('info', 'json')\n"


def child(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError(URL)",
        "t = threading.Thread(target=lambda: int(URL)); t.start(); t.join()",
        "class Bad:\n def __del__(self): raise ValueError(URL)\nBad()",
    ],
)
def test_an_unhandled_exception_is_a_log_line_without_its_text(code: str) -> None:
    done = child(code)
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["message"] == "unhandled exception"
    assert line["error.type"] == "ValueError"
    assert done.stderr == ""
    assert "hunter2" not in done.stdout


def test_a_handler_that_fails_prints_nothing_of_the_record() -> None:
    done = child("logging.getLogger('decoder').info('x', extra={'a': {('b',): URL}})\nprint('alive')")
    assert done.stdout == "alive\n"
    assert done.stderr == ""


def test_a_reader_that_went_away_does_not_end_the_worker() -> None:
    code = """
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
for _ in range(3):
    logging.getLogger("decoder").info("nobody listens")
print("alive", file=sys.stderr, flush=True)
os._exit(0)
"""
    done = child(code)
    assert done.stderr == "alive\n"
    assert done.returncode == 0


def test_all_that_was_logged_is_written_in_order_before_the_process_ends() -> None:
    code = "for n in range(3000):\n logging.getLogger('decoder').info('%d', n)\nlogging.shutdown()\nos._exit(0)"
    assert [json.loads(line)["message"] for line in child(code).stdout.splitlines()] == [str(n) for n in range(3000)]


def test_a_slow_reader_of_the_output_holds_up_no_thread() -> None:
    """The process logs many times a pipe's capacity before the first read."""
    code = "for n in range(3000):\n logging.getLogger('decoder').info('%d', n)\nsys.stderr.write('all logged\\n')\nsys.stderr.flush()"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started([sys.executable, "-c", PRELUDE + code], **pipes) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "all logged\n"
        out, _ = process.communicate(timeout=60)
    assert len(out.splitlines()) == 3000


ROOT = Path(logs.__file__).parents[2]
FIELD = re.compile(r"(?<![\w./-])(?:mission|event|error)\.[a-z_.]+(?:\{[a-z,]+\}\w+)?(?!\w)")
NAMED = [
    (place, field.rstrip("."))
    for place in ("helm/decoder/files/rules.yaml", "RUNBOOK.md", "docs/operations.md", "docs/logs.md")
    for field in sorted(set(FIELD.findall((ROOT / place).read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize(("place", "named"), NAMED)
def test_a_field_that_alerts_and_documents_name_is_one_that_the_worker_writes(place: str, named: str) -> None:
    written = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "worker").rglob("*.py"))
    for phase in PHASES:
        written += f'"mission.phase.{phase}_seconds"'
    before, brace, rest = named.partition("{")
    several, _, after = rest.partition("}")
    assert all(f'"{before}{name}{after}"' in written for name in (several.split(",") if brace else [""])), named
