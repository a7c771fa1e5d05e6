"""The memory cost of a bomb or a flood: at most twice the cap on top of what the process had before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.misbehaving import MIB, MisbehavingServer

CAP = 10 * MIB
CONSTANT = 12 * MIB  # buffers of the decoders (zstd's window alone may be 8 MiB) and the allocator's slack

# A separate process fetches one by one, and reports by how many bytes each fetch raised its peak resident memory.
SCRIPT = """
import sys
from pathlib import Path
from urllib.parse import urlsplit
from mission.errors import MissionFailed
from tests.servers.fetching import fetching

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

small, cap, *urls = sys.argv[1:]
with fetching(urlsplit(small).port, max_bytes=int(cap), read_timeout=20) as rig:
    for coding in ("gzip", "deflate", "br", "zstd"):
        rig.fetch(f"{small}&coding={coding}")
    for url in urls:
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        try:
            end = str(len(rig.fetch(url, seconds=60).body))
        except MissionFailed as failure:
            end = failure.reason.value
        print(end, memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux' /proc")
def test_memory_stays_within_twice_the_cap() -> None:
    ends = {
        **{f"/bomb?mib=100&coding={coding}": "body_too_large" for coding in ("gzip", "deflate", "br", "zstd")},
        "/bomb?mib=100&coding=gzip,gzip": "body_too_large",
        "/bomb?mib=100&coding=br,zstd": "body_too_large",
        **{f"/doc?size={CAP}&coding={coding}": str(CAP) for coding in ("gzip", "deflate", "br", "zstd")},
        f"/doc?size={CAP}": str(CAP),
        f"/doc?size={CAP}&framing=chunked&step=50000": str(CAP),
        f"/doc?size={CAP}&framing=close": str(CAP),
        "/endless-body": "body_too_large",
        "/endless-chunks": "body_too_large",
        "/endless-headers": "malformed_response",
        "/endless-header": "malformed_response",
        "/endless-extension": "malformed_response",
    }
    with MisbehavingServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, server.url("/doc?size=1000"), str(CAP), *map(server.url, ends)],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    for (target, end), line in zip(ends.items(), done.stdout.splitlines(), strict=True):
        said, grown = line.split()
        assert said == end, target
        assert int(grown) <= 2 * CAP + CONSTANT, target
