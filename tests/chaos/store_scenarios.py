"""Disturbances of Redis: killed, full, out of disk, failed over, cut off."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.arena import Arena
from tests.chaos.cluster import DOWN_AFTER_SECONDS, Cluster
from tests.chaos.network import NoNetwork, Packets, in_own_network
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report, Scale

BACK_SECONDS = 60.0


def kill_redis(scale: Scale) -> Report:
    """2. The server gets SIGKILL five times under load, and restarts after a while."""
    report = Report("2 kill -9 of Redis")
    work, away = scale.pick(0.5, 5.0), scale.pick(0.5, 3.0)
    kills = 5
    back = []
    with Arena(report, hooks=scale.pick(("quick",), ()), delay=0.3) as arena:
        arena.start_workers(2)
        with arena.load(None, per_second=100) as load:
            for _ in range(kills):
                time.sleep(work)
                arena.mark()
                arena.server.kill()
                time.sleep(away)
                arena.server.start()
                back.append(next_end(arena))
        arena.drain(120)
        arena.count()
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(
        f"{kills} SIGKILLs; work went on at most {max(back):.1f} s after Redis was back; "
        f"slowest enqueue {load.slowest:.1f} s; refused: {dict(load.refusals)}"
    )
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")
    return report


def next_end(arena: Arena) -> float:
    """Seconds from now until a mission ends."""
    began, before = time.monotonic(), arena.finished()
    arena.wait(lambda: arena.finished() > before, BACK_SECONDS, "the next end of a mission")
    return time.monotonic() - began


def full_redis(scale: Scale) -> Report:
    """3a. The ledger's limit is reached; then Redis is out of memory (noeviction) for a while."""
    report = Report("3a Redis full, then freed")
    full = scale.pick(1.0, 30.0)
    with Arena(report, delay=0.3, producer={"queue_limit": "100"}) as arena:
        with arena.load(None, per_second=400) as load:
            arena.wait(lambda: load.refusals["QueueFull"], 30, "QueueFull")
            arena.start_workers(2)
            next_end(arena)
            arena.mark()
            arena.redis.config_set("maxmemory", "1mb")
            arena.wait(lambda: load.refusals["LedgerRefuses"], 30, "LedgerRefuses")
            time.sleep(full)
            accepted = len(load.tickets)
            time.sleep(0.5)
            report.expect(len(load.tickets) == accepted, "something was accepted while Redis was full")
            arena.redis.config_set("maxmemory", "0")
            back = next_end(arena)
            arena.wait(lambda: len(load.tickets) > accepted + 100, 60, "enqueues to go on")
        arena.drain(60)
        arena.count()
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(f"full for {full:g} s; work went on after {back:.1f} s; refused: {dict(load.refusals)}")
    report.expect(set(load.refusals) == {"QueueFull", "LedgerRefuses"}, "another refusal than these two")
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")
    return report


def full_disk(scale: Scale) -> Report:
    """3b. The AOF's disk is full, so the server ends; then space is freed, and the server restarts."""
    report = Report("3b disk full, then freed")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="decoder-chaos-")))
        if problem := _mount(folder):
            report.skipped = f"a small file system is needed for this: {problem}"
            return report
        stack.callback(_unmount, folder)
        arena = stack.enter_context(Arena(report, delay=0.3, data_dir=folder / "data"))
        arena.start_workers(2)
        with arena.load(None, per_second=200) as load:
            next_end(arena)
            arena.mark()
            ballast = folder / "ballast"
            _fill(ballast)
            arena.wait(lambda: arena.server.pid is None, 60, "the server to end")
            arena.wait(lambda: load.refusals["LedgerUnavailable"], 30, "LedgerUnavailable")
            time.sleep(scale.pick(1.0, 30.0))
            ballast.unlink()
            arena.server.start()
            back = next_end(arena)
        arena.drain(scale.pick(60, 300))
        arena.count()
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(f"work went on {back:.1f} s after Redis was back; refused: {dict(load.refusals)}")
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")
    return report


def failover(scale: Scale) -> Report:
    """3c. The replicas fall behind, the master is killed, Sentinel promotes one; writes wait for one (`_REDIS_REPLICAS=1`)."""
    report = Report("3c failover, DECODER_REDIS_REPLICAS=1")
    values = {"redis_replicas": "1", "redis_timeout": scale.pick("1s", "5s")}
    with ExitStack() as stack:
        arena = stack.enter_context(Arena(report, delay=0.3, worker=values, producer=values))
        cluster = stack.enter_context(Cluster(arena.server, arena.folder))
        arena.redis_url = cluster.url
        arena.redis = cluster.client()
        stack.callback(arena.redis.close)
        arena.start_workers(2)
        with arena.load(None, per_second=100) as load:
            next_end(arena)
            time.sleep(scale.pick(0.5, 10.0))
            cluster.cut()
            arena.wait(lambda: load.refusals["LedgerUnavailable"], 30, "LedgerUnavailable")
            arena.mark()
            arena.server.kill()
            back = next_end(arena)
            time.sleep(scale.pick(0.5, 10.0))
        arena.drain(60)
        arena.count()
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(
        f"work went on {back:.1f} s after the master's end (noticed after {DOWN_AFTER_SECONDS:g} s); refused: {dict(load.refusals)}"
    )
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")
    return report


def partition(scale: Scale) -> Report:
    """4. The network around Redis drops every packet for a while, by iptables or by a proxy that goes silent."""
    report = Report("4 partition")
    try:
        in_own_network(lambda: _partition(scale, report, Packets))
    except NoNetwork as problem:
        report.notes.append(f"by a proxy that goes silent, for want of a network of its own ({problem})")
        _partition(scale, report, Proxy)
    else:
        report.notes.append("by iptables, in a network namespace")
    return report


def _partition(scale: Scale, report: Report, network: Callable[[int], Packets | Proxy]) -> None:
    silences = scale.pick((3.0,), (30.0, 180.0))
    timeout = scale.pick(1.0, 5.0)
    values = {"redis_timeout": f"{timeout}s"}
    back = []
    with ExitStack() as stack:
        arena = stack.enter_context(Arena(report, delay=0.3, worker=values, producer=values))
        link = network(arena.server.port)
        stack.enter_context(link)
        arena.redis_url = arena.server.url.replace(f":{arena.server.port}/", f":{link.port}/")
        arena.start_workers(2)
        with arena.load(None, per_second=100) as load:
            for seconds in silences:
                next_end(arena)
                time.sleep(1.0)
                arena.mark()
                link.cut()
                time.sleep(seconds)
                link.heal()
                back.append(next_end(arena))
        arena.drain(120)
        arena.count()
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(
        f"silent for {silences} s; work went on at most {max(back):.1f} s later; "
        f"slowest enqueue {load.slowest:.1f} s at a timeout of {timeout:g} s; refused: {dict(load.refusals)}"
    )
    report.expect(load.refusals["LedgerUnavailable"], "no enqueue was refused")
    # An admission may get through while its message does not.
    report.expect(load.slowest < 2 * timeout + 2, f"an enqueue took {load.slowest:.1f} s")
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted, "not every mission succeeded")


def _mount(folder: Path) -> str:
    """Mount a file system with room for everything that is enqueued after the restart; return why it failed, or ""."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"no mount ({error.strerror})"
    return done.stderr.strip()


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    """Fill the file system."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
