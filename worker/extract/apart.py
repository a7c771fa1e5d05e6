"""Extraction in a process of its own, for a document that may be what ends workers: a crash or an endless call costs one mission.

`python -m worker.extract.apart` is that process. It gets no environment, so no key. It opens nothing, and its memory and its
time are limited before it reads the document.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, cast

from mission.errors import MissionFailed
from mission.hardening import keep_memory_private
from mission.model import Reason, Secret
from worker.extract.charset import decode_body
from worker.extract.findings import REFUSALS, Findings
from worker.extract.markers import Extractor

CHILD: tuple[str, ...] = (sys.executable, "-I", "-m", "worker.extract.apart")
# What the process takes beside its document's share, with 10,000 secrets in hand, in bytes.
CHILD_BYTES = 40 * 1024**2


def extract_apart(
    extractor: Extractor, body: bytes, content_type: str | None, *, seconds: float, memory: int
) -> list[Secret]:
    """The secrets of a body, as `extractor` finds them in its text.

    Args:
        extractor: what is to find them; another one of its kind does.
        body: of the document.
        content_type: its charset's.
        seconds: that it may take.
        memory: that it may take beside what it has when it starts, in bytes.

    Raises:
        MissionFailed: as `Extractor.extract`; `extraction_crashed` where the process ended without an answer; `deadline_exceeded`.
    """
    options = {"markers": extractor.markers, "max_bytes": extractor.max_bytes, "content_type": content_type}
    options |= {"seconds": math.ceil(seconds) + 1, "memory": memory}
    until = monotonic() + seconds
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(CHILD, stdin=pipe, stdout=pipe, stderr=nowhere, env={}) as child:  # noqa: S603 (no stranger's text)
        stdin, stdout = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            with suppress(OSError), stdin:  # it may end before it has read all
                stdin.write(json.dumps(options).encode() + b"\n")
                stdin.write(body)
            # Whatever took it over may go on writing for ever.
            answer = stdout.read(2 * extractor.max_bytes + 1024)
        finally:
            timer.cancel()
            child.kill()
    return _secrets(answer, extractor.max_bytes, late=monotonic() >= until)


def _secrets(answer: bytes, max_bytes: int, *, late: bool) -> list[Secret]:
    """What an answer says. Nobody knows who wrote it."""
    try:
        told = json.loads(answer)
        if told.get("reason") in REFUSALS:
            raise MissionFailed(Reason(told["reason"]))
        found = Findings(max_bytes)
        for item in told["secrets"]:
            found.add(Secret.from_dict(item))
        return found.secrets
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MissionFailed(Reason.DEADLINE_EXCEEDED if late else Reason.EXTRACTION_CRASHED) from None


def main() -> None:
    """Read one document from standard input, and answer on standard output."""
    keep_memory_private()
    options = json.loads(sys.stdin.buffer.readline())
    signal.alarm(options["seconds"])  # ends it also where its worker is gone, and nobody else does
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + options["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    extractor = Extractor(tuple(options["markers"]), options["max_bytes"])
    try:
        secrets = extractor.extract(decode_body(sys.stdin.buffer.read(), options["content_type"]))
        answer: object = {"secrets": [secret.as_dict() for secret in secrets]}
    except MissionFailed as failure:
        answer = {"reason": failure.reason}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
