"""A document's memory from its body to its sealed record: never more than the budget reserves for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker.extract.apart import CHILD_BYTES
from worker.extract.detectors import DETECTORS
from worker.fetch.fetcher import FREE_BYTES
from worker.work.memory import FREE_SECRETS, MIB, PER_BYTE, RULES_BYTES, SECRETS_BYTES, SLOT_BYTES

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux' /proc")

# A separate process decodes documents one by one, and reports by how many bytes each raised its peak resident memory.
SCRIPT = """
import json
import sys
from pathlib import Path
from mission.errors import MissionFailed
from mission.seal.sealing import Identity, seal_secrets
from worker.extract import Extractor
from worker.work.memory import FREE_SECRETS, give_back_at_once

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def widened(size, *wide):
    "Its text is made anew for each character that needs more bytes than those before it."
    text = bytearray(b"x" * size)
    for number, char in enumerate(wide, 1):
        at = size * number // len(wide) - 8
        text[at : at + len(char)] = char
    return bytes(text)

def documents(size):
    wide = "é".encode(), "€".encode(), "\\U0001f480".encode()
    yield "plain", b"x" * size, None
    yield "widened at its end", widened(size, wide[-1]), None
    yield "widened step by step", widened(size, *wide), None
    yield "with a mark", b"\\xef\\xbb\\xbf" + widened(size - 3, *wide), None
    yield "no text", (b"\\xffx" * (size // 2))[: size - 4] + wide[-1], None
    yield "one byte a character", b"\\x80" * size, "text/plain; charset=windows-1252"
    yield "UTF-16", (b"\\xff\\xfe" + b"\\0\\xdc" * size)[: size - 4] + "\\U0001f480".encode("utf-16-le"), None
    yield "UTF-32", (b"\\xff\\xfe\\0\\0" + b"\\xff" * size)[:size], None
    yield "GB 18030", b"\\xff" * (size - 4) + "\\U0001f480".encode("gb18030"), "text/plain; charset=gbk"
    yield "one secret", b"{*" + widened(size - 4, *wide) + b"*}", None
    blank = widened(size - 4, *wide).replace(b"x", b" ")
    yield "white space around one character in the middle", b"{*" + blank + b"*}", None
    yield "white space on both sides", b"{*" + b" " * (size // 2) + wide[-1] + b" " * (size // 2 - 8) + b"*}", None
    secrets = b"".join(b"{*K%05d: %05d*}" % (n, n) for n in range(min(9_999, size // 17)))
    finds = (b'pw="a1b2c3", ' * (size // 13))[: size - 4] + wide[-1]
    yield "finds of a rule, one at the other", finds, None
    yield "many secrets", secrets + widened(size - len(secrets) + 16, *wide), None

recipient, extractor = Identity.generate().recipient, Extractor()
give_back_at_once()
seal_secrets(recipient, extractor.extract(b"{* a *}"), mission_id="m" * 36, token=1)
for name, body, content_type in documents(int(sys.argv[1])):
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    try:
        secrets = extractor.extract(body, content_type)
        if len(secrets) <= int(sys.argv[2]):
            seal_secrets(recipient, secrets, mission_id="m" * 36, token=1)
    except MissionFailed:
        pass
    secrets = []
    print(json.dumps([name, len(body) + memory("VmHWM") - before]))
"""


# An extraction process's memory before it reads its document.
APART = """
import sys
from pathlib import Path
from worker.extract import apart

def say(*_):
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")))
    sys.exit()

apart._confine = say
apart.main()
"""


def test_a_process_for_extraction_takes_no_more_by_itself_than_is_counted_for_it(rules_cache: Path) -> None:
    order = (
        json.dumps(
            {
                "detectors": DETECTORS,
                "markers": ["{*", "*}"],
                "rules": [],
                "cache": str(rules_cache),
                "max_bytes": MIB,
                "memory": MIB,
                "seconds": 9,
                "size": 0,
                "content_type": "",
            }
        )
        + "\n"
    )
    command = [sys.executable, "-c", APART]
    done = subprocess.run(command, input=order, capture_output=True, text=True, env={}, timeout=60, check=True)
    assert CHILD_BYTES / 2 < int(done.stdout) < CHILD_BYTES + RULES_BYTES


@pytest.mark.parametrize(
    ("size", "sealed", "most"),
    [
        (10 * MIB, 10_000, PER_BYTE * 10 * MIB + SECRETS_BYTES),
        (FREE_BYTES + 1, 10_000, PER_BYTE * FREE_BYTES + SECRETS_BYTES),
        (FREE_BYTES, FREE_SECRETS, SLOT_BYTES),  # beyond these many it takes a place
    ],
)
def test_a_document_takes_no_more_than_is_counted_for_it(size: int, sealed: int, most: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(size), str(sealed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    took = dict(map(json.loads, done.stdout.splitlines()))
    assert len(took) == 14
    assert {name: peak for name, peak in took.items() if peak > most} == {}
