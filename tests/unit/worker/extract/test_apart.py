"""Extraction in a process of its own: the same secrets, and whatever that process does costs its mission alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from mission.errors import MissionFailed
from mission.model import Reason, Secret
from worker.extract import MAX_SECRETS, Extractor, apart, decode_body
from worker.extract.apart import extract_apart
from worker.work.memory import MIB, of_document

DOCUMENTS: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "without secrets": (b"nothing here", "text/plain"),
    "several": ("a {* KEY: välue *}\r\n{* two\nlines *}".encode(), "text/html; charset=utf-8"),
    "another charset": ("{* NAME: Müller *}".encode("utf-16"), "text/plain; charset=utf-16"),
    "no text": (bytes(range(256)) * 4 + b"{* \xff\xfe *}", None),
    "escapes": (b'{* A: "quoted" \\ \x00 *}', None),
}


def apart_(
    body: bytes, content_type: str | None = None, *, seconds: float = 60.0, extractor: Extractor | None = None
) -> list[Secret]:
    return extract_apart(extractor or Extractor(), body, content_type, seconds=seconds, memory=of_document(len(body)))


def refusal(body: bytes = b"{* KEY: value *}", *, seconds: float = 60.0, extractor: Extractor | None = None) -> Reason:
    with pytest.raises(MissionFailed) as failed:
        apart_(body, seconds=seconds, extractor=extractor)
    return failed.value.reason


def does(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """The process does this instead."""
    monkeypatch.setattr(apart, "CHILD", (sys.executable, "-I", "-c", f"import os, sys, time\n{program}"))


def answering(value: str) -> str:
    """A program that answers with one secret."""
    fields = "detector='a', category='b', line=1, column=1"
    return f"import json; print(json.dumps({{'secrets': [dict({fields}, value={value})]}}))"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_finds_what_is_found_in_the_worker(name: str) -> None:
    body, content_type = DOCUMENTS[name]
    assert apart_(body, content_type) == Extractor().extract(decode_body(body, content_type))


def test_markers_and_cap_are_those_of_the_worker() -> None:
    own = Extractor(("<<", ">>"), 2000)
    assert [secret.value for secret in apart_(b"<< mine >> {* not *}", extractor=own)] == ["mine"]
    assert refusal(b"<< %s >>" % (b"x" * 2000), extractor=own) is Reason.RESULT_TOO_LARGE
    assert refusal(b"{* a *}" * (MAX_SECRETS + 1)) is Reason.TOO_MANY_SECRETS


def test_the_largest_document_has_memory_enough() -> None:
    body = b"{* K: \xf0\x9f\x92\x80 *}" + b"x" * (10 * MIB)
    assert [secret.value for secret in apart_(body)] == ["\U0001f480"]


def test_what_takes_more_memory_than_is_counted_ends_there() -> None:
    body = b"x" * (10 * MIB)
    with pytest.raises(MissionFailed) as failed:
        extract_apart(Extractor(), body, None, seconds=60, memory=MIB)
    assert failed.value.reason is Reason.EXTRACTION_CRASHED


@pytest.mark.parametrize(
    "program",
    [
        "os.abort()",
        "os._exit(0)",
        "sys.stdin.buffer.read(); os.kill(os.getpid(), 9)",
        "print('[]')",
        "print('{}')",
        "print('nonsense')",
        "sys.stdin.buffer.read(); print('[' * 10**5)",
        'print(\'{"reason": "host_paused"}\')',
        "print('{\"secrets\": [{}]}')",
        answering("1"),
        "sys.stdin.buffer.read()\nwhile True: sys.stdout.write('x' * 10**6)",
    ],
)
def test_a_process_without_an_answer_costs_its_mission_alone(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, program)
    assert refusal(b"x" * MIB) is Reason.EXTRACTION_CRASHED


def test_an_answer_is_held_to_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, answering("'x' * 3000"))
    assert refusal(extractor=Extractor(max_bytes=2000)) is Reason.RESULT_TOO_LARGE


def test_it_gets_no_key_and_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_URL_KEY", "canary")
    does(monkeypatch, answering("repr(dict(os.environ))"))
    assert "DECODER" not in apart_(b"")[0].value


def test_an_endless_one_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    does(monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    began = time.monotonic()
    assert refusal(seconds=2.0) is Reason.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 60
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
