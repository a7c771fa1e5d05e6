"""Extraction in a separate process, for a document that may crash workers: a crash or an endless call then costs one mission.

That process has no environment and can open neither files nor connections, so it reaches no key. Its memory and time are
limited before it reads the document. It gets a line of JSON and the document on a socket, and answers on the same socket. The
worker does not trust the answer: it limits its size, checks it, and always ends the process.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

from mission.errors import DecoderError, MissionFailed
from mission.hardening import end_with_parent, keep_memory_private
from mission.model import Cut, Extraction, Reason, Secret
from worker.extract import charset
from worker.extract.detectors import MARKER, Detectors
from worker.extract.extractor import Extractor
from worker.extract.findings import REFUSALS, Findings

# It gets the worker's paths, because an isolated interpreter may not find this package.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from worker.extract.apart import main; main()"
# Bytes of memory that the process itself needs, without its rules and its document. Measured with 10,000 secrets found.
CHILD_BYTES = 40 * 1024**2

_READY = b"ready\n"


def extract_apart(
    extractor: Extractor, body: bytes, content_type: str | None, *, deadline: float, memory: int
) -> Extraction:
    """Extract the secrets of a body in a separate process; the process has ended when this returns.

    Args:
        extractor: the process uses a copy with the same options.
        body: of the document; it is not copied here.
        content_type: names the charset.
        deadline: on the monotonic clock.
        memory: the bytes that the process may use in addition to its memory at the start.

    Raises:
        MissionFailed: a refusal of `Findings`; `extraction_crashed` if the process sent no valid answer; `deadline_exceeded`.
        DecoderError: the process ended before it was ready for the document.
        OSError: the process could not be started.
    """
    options = {
        "detectors": extractor.detectors.names,
        "markers": extractor.detectors.markers,
        "rules": [str(path) for path in extractor.detectors.rules],
        "cache": str(extractor.detectors.cache),
        "max_bytes": extractor.max_bytes,
        "content_type": content_type,
        "seconds": math.ceil(_left(deadline)) + 1,  # the deadline comes first
        "memory": memory,
        "size": len(body),
    }
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(  # noqa: S603 (no shell, and no stranger's text)
                [sys.executable, "-I", "-c", PROGRAM, *sys.path],
                env={},
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            answer = _talk(ours, json.dumps(options).encode() + b"\n", body, 2 * extractor.max_bytes + 1024, deadline)
        finally:
            with suppress(ProcessLookupError, PermissionError):  # on Linux or macOS: it has ended
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if not answer.startswith(_READY):
        raise DecoderError(f"the extraction process did not start: it exited with {child.returncode}")
    return _believed(answer.removeprefix(_READY), extractor)


def _talk(child: socket.socket, options: bytes, body: bytes, most: int, deadline: float) -> bytearray:
    """The process' answer; reading stops after more than `most` bytes."""
    answer = bytearray()
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may end before it has read all
            for piece in (options, body):
                child.settimeout(_left(deadline))
                child.sendall(piece)
        with suppress(ConnectionResetError):
            while len(answer) <= most:
                child.settimeout(_left(deadline))
                if not (piece := child.recv(64 * 1024)):
                    break
                answer += piece
    except TimeoutError:
        raise MissionFailed(Reason.DEADLINE_EXCEEDED) from None
    return answer


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise MissionFailed(Reason.DEADLINE_EXCEEDED)
    return left


def _believed(answer: bytearray, extractor: Extractor) -> Extraction:
    """Parse and check an untrusted answer."""
    known = {MARKER, *(scanner.detector for scanner in extractor.scanners)}
    try:
        told = json.loads(answer)
        if told.get("reason") in REFUSALS:
            raise MissionFailed(Reason(told["reason"]))
        found = Findings(extractor.max_bytes)
        for item in told["secrets"]:
            secret = Secret.from_dict(item)
            if secret.detector not in known:  # it becomes a metric's label
                raise ValueError
            found.add(secret)
        return Extraction(found.secrets, map(Cut, told["cut"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MissionFailed(Reason.EXTRACTION_CRASHED) from None


def main() -> None:
    """Load the rules, drop all other rights, read the document, and answer."""
    keep_memory_private()
    end_with_parent()
    options = json.loads(sys.stdin.buffer.readline())
    names, markers, rules = (tuple(options[name]) for name in ("detectors", "markers", "rules"))
    detectors = Detectors(names, markers, tuple(map(Path, rules)), Path(options["cache"]))
    extractor = Extractor(detectors, options["max_bytes"])
    charset.load()
    _confine(options["memory"], options["seconds"])
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    try:
        found = extractor.extract(sys.stdin.buffer.read(options["size"]), options["content_type"])
        answer: object = {"secrets": [secret.stored() for secret in found], "cut": sorted(found.cut)}
    except MissionFailed as failure:
        answer = {"reason": failure.reason}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _confine(memory: int, seconds: int) -> None:
    signal.alarm(seconds)  # ends the process even if the worker does not
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 0, resource.RLIMIT_NPROC: 0}
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            limits[resource.RLIMIT_AS] = int(file.read().split()[0]) * resource.getpagesize() + memory
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))
