"""Extraction in a separate process: it finds the same secrets, and a failure in it costs only one document."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mission.errors import DecoderError, MissionFailed
from mission.model import Reason, Secret
from tests.conftest import wait_for
from tests.credentials import GITHUB_TOKEN, PASSWORD, SLACK_TOKEN
from tests.processes import processes_in
from worker.extract import MAX_SECRETS, Detectors, Extractor, apart
from worker.extract.apart import extract_apart
from worker.work.memory import MIB, of_document

# Replaces the child's extraction. The test's code cannot import anything: the child opens no file.
CHANGED = """
import ctypes, os, resource, socket, sys
from mission.model import Extraction, Secret
from worker.extract import apart
def extract():
    {}
apart.Extractor.extract = lambda *_: Extraction(extract())
apart.main()
"""


MARKERS = Extractor(Detectors(("marker",)))


def answering(answer: bytes) -> str:
    """Code that sends this answer and ends the process."""
    return f"os.write(1, {answer!r}); os._exit(0)"


CRASHES = {
    "aborts": "os.abort()",
    "reads where nothing is": "ctypes.string_at(0)",
    "ends at once": "os._exit(0)",
    "raises": "raise ZeroDivisionError",
    "is killed": "os.kill(os.getpid(), 9)",
    "takes more memory than it may": "bytearray(64 * 1024**2); return []",
    "answers no JSON": answering(b"{"),
    "answers no object": answering(b"[]"),
    "answers nothing": answering(b"{}"),
    "answers very deep": answering(b"[" * 10_000),
    "answers another reason": answering(b'{"reason": "host_paused"}'),
    "answers no secret": answering(b'{"secrets": [{}]}'),
    "answers a number for a text": answering(
        b'{"secrets": [{"detector": "marker", "category": "K", "value": 1, "line": 1, "column": 1}]}'
    ),
    "answers a detector that there is not": "return [Secret('x', 'K', 'v', 1, 1)]",
    "answers without an end": "while os.write(1, b' ' * 4096): pass",
}


@pytest.fixture
def child_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the child run this instead of extracting."""

    def change(code: str) -> None:
        monkeypatch.setattr(apart, "PROGRAM", f"import sys; sys.path[:] = sys.argv[1:]{CHANGED.format(code)}")

    return change


def extract(
    body: bytes, content_type: str | None = None, *, extractor: Extractor | None = None, seconds: float = 60.0
) -> list[Secret]:
    memory, deadline = of_document(len(body)) - len(body), time.monotonic() + seconds
    return extract_apart(extractor or MARKERS, body, content_type, deadline=deadline, memory=memory)


def failure(body: bytes = b"{* a *}", *, extractor: Extractor | None = None, seconds: float = 60.0) -> Reason:
    with pytest.raises(MissionFailed) as caught:
        extract(body, extractor=extractor, seconds=seconds)
    return caught.value.reason


def here(body: bytes, content_type: str | None) -> list[Secret]:
    return MARKERS.extract(body, content_type)


# Same findings


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["{*", "*}", "KEY: ", " ", "\r\n", "é", "\U0001f480", "\ud800", "x"]), max_size=60).map(
        "".join
    ),
    st.sampled_from(
        ["utf-8", "utf-16", "utf-32-be", "gb18030", "big5hkscs", "iso2022_jp", "shift_jis", "euc-kr", "windows-1252"]
    ),
)
@example("{* KEY: value *}", "utf-16")
def test_finds_what_is_found_in_process(text: str, charset: str) -> None:
    body, content_type = text.encode(charset, errors="replace"), f"text/plain; charset={charset}"
    assert extract(body, content_type) == here(body, content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"".join(b"{*K%05d: %05d*}" % (n, n) for n in range(MAX_SECRETS)),
        b"{*" + b"x" * 64_000 + b"*}",
        b"{* a *}" + b"x" * (10 * MIB - 32) + "\U0001f480 {* b *}".encode(),
        ("{* a *}" + "\u20ac" * (5 * MIB - 32) + "\U0001f480 {* b *}").encode("utf-16"),
    ],
    ids=[
        "nothing",
        "as many as there may be",
        "a long one",
        "the largest, widened at its end",
        "the largest in UTF-16",
    ],
)
def test_finds_what_is_found_in_process_in_a_document_at_the_bounds(body: bytes) -> None:
    assert extract(body) == here(body, None)


# Runs the test's code, then the child's own extraction.
AFTER = """
import os, signal, sys
sys.path[:] = sys.argv[1:]
from worker.extract import apart, extractor
extractor.BUDGET_SECONDS = 60.0  # on a busy machine too
found = apart.Extractor.extract
apart.Extractor.extract = lambda *given: ({}, found(*given))[1]
apart.main()
"""


@pytest.mark.parametrize("lines", [1, 10_000])
def test_every_detector_works_within_the_limits_that_bind_a_user(
    lines: int, rules_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit on processes does not bind root, so the child becomes another user.
    monkeypatch.setattr(apart, "PROGRAM", AFTER.format("os.geteuid() or os.setuid(65534)"))
    monkeypatch.setattr("worker.extract.extractor.BUDGET_SECONDS", 60.0)
    (pack := tmp_path / "mine.toml").write_text("[[rules]]\nid = 'acme'\nregex = '''acme-([a-z0-9]{8})'''\n")
    everything = Extractor(Detectors(rules=(pack,), cache=rules_cache))
    line = f"token={GITHUB_TOKEN} password={PASSWORD} acme-a1b2c3d4\n"
    encoded = base64.b64encode(f"slack: {SLACK_TOKEN}".encode()).decode()
    body = f"{{* KEY: a *}} {encoded} \U0001f480\n{line * lines}".encode()
    found = extract(body, extractor=everything)
    assert found == everything.extract(body)
    assert {secret.detector for secret in found} == {"marker", "provider", "generic", "pack:mine"}
    assert "base64" in {secret.encoding for secret in found}


def test_markers_and_cap_are_those_of_the_worker() -> None:
    own = Extractor(Detectors(("marker",), ("<<", ">>")), 2000)
    assert [secret.value for secret in extract(b"<< mine >> {* not *}", extractor=own)] == ["mine"]
    assert failure(b"<< %s >>" % (b"x" * 2000), extractor=own) is Reason.RESULT_TOO_LARGE
    assert failure(b"{* a *}" * (MAX_SECRETS + 1)) is Reason.TOO_MANY_SECRETS


# Failures of the child


@pytest.mark.parametrize("code", CRASHES.values(), ids=CRASHES.keys())
def test_a_child_that_dies_or_talks_nonsense_ends_the_mission(code: str, child_that: Callable[[str], None]) -> None:
    child_that(code)
    assert failure() is Reason.EXTRACTION_CRASHED


def test_a_child_that_is_killed_within_the_engine_ends_the_mission(
    rules_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PROGRAM", AFTER.format("signal.setitimer(signal.ITIMER_REAL, 0.2)"))
    body = b"-----BEGIN RSA PRIVATE KEY-----\n" * 200_000  # takes the engine seconds
    assert failure(body, extractor=Extractor(Detectors(cache=rules_cache))) is Reason.EXTRACTION_CRASHED


def test_an_answer_is_held_to_the_cap(child_that: Callable[[str], None]) -> None:
    child_that("return [Secret('marker', 'K', 'x' * 3000, 1, 1)]")
    assert failure(extractor=Extractor(Detectors(("marker",)), 2000)) is Reason.RESULT_TOO_LARGE


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("ctypes.PyDLL(None).sleep(1000)", 7),  # the GIL is held
        ("pass\napart.charset.load = lambda: ctypes.PyDLL(None).sleep(1000)", 4 * MIB),
    ],
    ids=["never answers", "never reads"],
)
def test_a_child_that_hangs_is_killed_at_the_deadline(
    code: str, size: int, child_that: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    child_that(code)
    assert failure(bytes(size), seconds=1.0) is Reason.DEADLINE_EXCEEDED
    assert processes_in(tmp_path) == [os.getpid()]


def test_no_child_is_started_after_the_deadline(child_that: Callable[[str], None]) -> None:
    child_that("os.abort()")
    assert failure(seconds=0.0) is Reason.DEADLINE_EXCEEDED


def test_a_child_that_does_not_start_is_not_the_documents_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PROGRAM", "raise SystemExit(3)")
    with pytest.raises(DecoderError, match="did not start: it exited with") as caught:
        extract(bytes(4 * MIB))
    assert caught.value.reason is None


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_a_child_ends_with_the_worker_whatever_ends_that(tmp_path: Path) -> None:
    body = CHANGED.format("pass\napart.charset.load = lambda: (open('hangs', 'w'), ctypes.PyDLL(None).sleep(1000))")
    program = (
        "import time\nfrom worker.extract import apart\n"
        f"apart.PROGRAM = 'import sys; sys.path[:] = sys.argv[1:]' + {body!r}\n"
        "apart.extract_apart(apart.Extractor(apart.Detectors(('marker',))), b'', None, deadline=time.monotonic() + 1000, memory=2**20)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as worker:
        wait_for((tmp_path / "hangs").exists, what="the child")
        assert len(processes_in(tmp_path)) == 2
        worker.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes_in(tmp_path), what="the child's end")


# The child's rights


def test_it_has_no_environment_and_can_open_neither_file_nor_connection(
    child_that: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECODER_URL_KEY", "sesame")
    tries = (
        "open('/etc/passwd'), lambda: socket.socket(), lambda: os.pipe(), lambda: os.write(os.memfd_create('x'), b'x')"
    )
    child_that(
        "found = []\n"
        f"    for attempt in (lambda: {tries}):\n"
        "        try: found.append(repr(attempt()))\n"
        "        except OSError as error: found.append(error.strerror)\n"
        "    found += [name for name in os.environ if name != 'LC_CTYPE']\n"  # Python itself sets it (PEP 538)
        "    return [Secret('marker', 'K', value, 1, 1) for value in found]"
    )
    assert {secret.value for secret in extract(b"")} == {"Too many open files"}


_HELD = """
def _held(number):
    try: return os.fstat(number)
    except OSError: return None
"""


def test_it_inherits_no_open_file(child_that: Callable[[str], None]) -> None:
    held, other = os.pipe()
    try:
        child_that("return [Secret('marker', 'K', str(d), 1, 1) for d in range(3, 256) if _held(d)]\n" + _HELD)
        os.set_inheritable(held, True)
        assert extract(b"") == []
    finally:
        os.close(held)
        os.close(other)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_its_memory_is_private_and_leaves_no_core(child_that: Callable[[str], None]) -> None:
    values = "ctypes.CDLL(None).prctl(3), *resource.getrlimit(resource.RLIMIT_CORE)"  # PR_GET_DUMPABLE
    child_that(f"return [Secret('marker', 'K', str(value), 1, 1) for value in ({values})]")
    assert [secret.value for secret in extract(b"")] == ["0", "0", "0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to become another user, whom the limit binds")
def test_it_starts_no_process(child_that: Callable[[str], None]) -> None:
    child_that(
        "os.setuid(65534)\n"
        "    try: return [Secret('marker', 'K', str(os.fork()), 1, 1)]\n"
        "    except OSError as error: return [Secret('marker', 'K', type(error).__name__, 1, 1)]"
    )
    assert [secret.value for secret in extract(b"")] == ["BlockingIOError"]


def test_it_ends_by_itself_where_nobody_ends_it() -> None:
    detectors = {"detectors": ["marker"], "markers": ["{*", "*}"], "rules": [], "cache": ""}
    options = detectors | {"max_bytes": 1000, "content_type": None, "seconds": 1, "memory": 0, "size": 1}
    command = [sys.executable, "-c", apart.PROGRAM, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert child.stdin
        child.stdin.write(json.dumps(options).encode() + b"\n")
        child.stdin.flush()
        assert child.wait(60) == -signal.SIGALRM
