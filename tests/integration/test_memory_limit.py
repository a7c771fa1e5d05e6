"""Hostile documents under a real cgroup of the chart's size: no worker is killed, and no other mission is harmed."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import brotli
import pytest

from mission.model import State, Ticket
from producer import MissionClient
from tests.conftest import unavailable, wait_for
from tests.integration.conftest import Keys
from tests.processes import peak_memory, started
from tests.servers.misbehaving import MIB, Exchange, MisbehavingServer, behaviour
from worker.extract.detectors import DETECTORS, MARKER
from worker.local.stack import stack_environment
from worker.settings import WorkerSettings
from worker.work.memory import BASE_BYTES, RULES_BYTES, worst_case

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

CONTROLLER = Path("/sys/fs/cgroup/memory")
SIZE = 10 * MIB  # the default of DECODER_MAX_BYTES
HOSTS = [f"127.0.0.{number}" for number in range(2, 10)]
EACH = 6
BYSTANDERS = 60


@cache
def hostile(coding: str) -> bytes:
    """The most expensive document possible: its text is widened three times, and its 9,900 secrets are far apart."""
    part = (b"{*" * 400 + b" a *}\n").ljust(SIZE // 9_900 - 1, b"x")
    text = bytearray((part * 9_900).ljust(SIZE - 64, b"x"))
    for place, char in ((SIZE // 2, "é"), (SIZE * 3 // 4, "€"), (SIZE - 200, "\U0001f480")):
        text[place : place + len(char.encode())] = char.encode()
    return gzip.compress(text, 6) if coding == "gzip" else brotli.compress(bytes(text), quality=5)


@behaviour("/hostile")
def _hostile(exchange: Exchange) -> None:
    coding = exchange.options["coding"]
    exchange.answer(hostile(coding), f"Content-Encoding: {coding}", "Content-Type: text/plain; charset=utf-8")


@contextmanager
def limited(mebibytes: int) -> Iterator[Path]:
    """A memory cgroup below our own, with this limit: its folder."""
    own = next(
        (line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line),
        None,
    )
    if own is None or not os.access(CONTROLLER, os.W_OK):
        unavailable("no memory cgroup of version 1 that this user may make groups in")
    folder = CONTROLLER / own.strip("/") / f"decoder-test-{os.getpid()}-{mebibytes}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(mebibytes * MIB))
        yield folder
    finally:
        wait_for(lambda: not (folder / "cgroup.procs").read_text(), what="the last process of the cgroup")
        folder.rmdir()


def figure(folder: Path, name: str) -> int:
    """A number from one of the cgroup's files."""
    return int((folder / f"memory.{name}").read_text())


def killed(folder: Path) -> int:
    """How many processes the kernel killed at the cgroup's limit."""
    return int(dict(line.split() for line in (folder / "memory.oom_control").read_text().splitlines())["oom_kill"])


@pytest.mark.parametrize(
    ("mebibytes", "concurrency", "detectors", "idle"),
    [(1024, 32, DETECTORS, BASE_BYTES + RULES_BYTES), (384, 12, (MARKER,), BASE_BYTES)],
    ids=["chart", "small"],
)
def test_no_worker_is_killed_for_memory_and_no_bystander_comes_to_harm(
    mebibytes: int,
    concurrency: int,
    detectors: tuple[str, ...],
    idle: int,
    settings: WorkerSettings,
    keys: Keys,
    mission_client: MissionClient,
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        group = stack.enter_context(limited(mebibytes))
        sites = [stack.enter_context(MisbehavingServer(host=host)) for host in HOSTS]
        good = stack.enter_context(MisbehavingServer())
        hostile("gzip"), hostile("br")
        values = {
            "redis_url": settings.redis_url.get_secret_value(),
            "url_key": keys.url_key,
            "recipient": keys.identity.recipient.text,
            "allowed_hosts": ",".join(f"127.0.0.{n}:{site.port}" for n, site in enumerate([good, *sites], 1)),
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.0/8",
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
            "concurrency": str(concurrency),
            "detectors": ",".join(detectors),
        }
        log = stack.enter_context((tmp_path / "worker.log").open("wb"))
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)]
        command = [*enter, sys.executable, "-m", "worker", "worker"]
        worker = stack.enter_context(
            started(command, env=stack_environment(values), cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        )
        first = mission_client.enqueue(good.url("/ok"), submitter="bystander")
        wait_for(
            lambda: worker.poll() is not None or mission_client.status(first.id).finished, what="the first mission"
        )
        assert 0 < peak_memory(worker.pid) < idle
        urls = [site.url(f"/hostile?coding={coding}") for site in sites for coding in ("gzip", "br")] * (EACH // 2)
        attack = list(mission_client.enqueue_many(urls, submitter="stranger"))
        others = list(mission_client.enqueue_many([good.url("/ok")] * BYSTANDERS, submitter="bystander"))
        tickets = [ticket.id for ticket in (*attack, *others) if isinstance(ticket, Ticket)]
        wait_for(
            lambda: worker.poll() is not None or all(mission_client.status(id_).finished for id_ in tickets),
            seconds=200,
            what="all missions",
        )
        assert (worker.poll(), killed(group), figure(group, "failcnt")) == (None, 0, 0)
        ends = [mission_client.status(id_) for id_ in tickets]
        assert {(end.state, end.attempts) for end in ends[-BYSTANDERS:]} == {(State.SUCCEEDED, 1)}
        assert {end.state for end in ends} == {State.SUCCEEDED}
        own = WorkerSettings.from_env(concurrency=concurrency, memory=mebibytes * MIB, detectors=detectors)
        assert peak_memory(worker.pid) <= worst_case(own)
        print(f"idle below {idle // MIB} MiB, at worst {worst_case(own) // MIB}, seen {peak_memory(worker.pid) // MIB}")
        worker.kill()
