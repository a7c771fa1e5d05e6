"""Two releases on one Valkey: upgraded and rolled back with missions under way, nothing is lost and all can be read.

Once with the code of the last tag. And once across a format change, with two releases from this tree: one
that reads the next number but does not write it, and its successor, which does. They differ only in that number.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mission.store.scripts import WRITES
from tests.chaos.arena import Arena
from tests.chaos.report import Report, table
from tests.conftest import wait_for
from tests.releases import ROOT, tree_of_last_release
from worker.local.children import end_child, start_child
from worker.local.stack import stack_environment

MISSIONS = 2000
BATCH = MISSIONS // 4
WORKERS = 2

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

# Short leases: missions that a rollout strands come back within seconds.
QUICK = "from tests.chaos.nursery import HOOKS; HOOKS['quick']()"


@dataclass(frozen=True, slots=True)
class Release:
    """A release: the folder of its code, how it is patched before it starts, and its producer's options."""

    name: str
    tree: Path
    change: str = ""
    enqueues: tuple[str, ...] = ()

    def command(self, module: str, *arguments: str) -> list[str]:
        """Its `mission` (module `producer`) or `decoder` (module `worker`)."""
        start = f"from {module}.cli import main; main({list(arguments)!r})"
        return [sys.executable, "-c", "\n".join([QUICK, self.change, start])]

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        """Its settings. Another tree's coverage is not counted here."""
        own = {name: value for name, value in stack_environment(values).items() if not name.startswith("COVERAGE_")}
        return own | {"PYTHONPATH": str(self.tree)}


def schemas(reads: tuple[int, int], writes: int) -> str:
    return (
        f"import mission.store.scripts; mission.store.scripts.READS = {reads}; mission.store.scripts.WRITES = {writes}"
    )


def last_tag_and_this_tree(folder: Path) -> tuple[Release, Release]:
    # Missions in a queue that the last release does not know are processed after a rollback.
    return Release("last", tree_of_last_release(folder)), Release("this", ROOT, enqueues=("--priority", "low"))


def a_change_of_the_format(_folder: Path) -> tuple[Release, Release]:
    return (
        Release("reads-it", ROOT, schemas((WRITES, WRITES + 1), WRITES)),
        Release("writes-it", ROOT, schemas((WRITES, WRITES + 1), WRITES + 1)),
    )


class Cluster:
    """Workers and producers of two releases in one arena."""

    def __init__(self, arena: Arena, folder: Path) -> None:
        self._arena = arena
        self._folder = folder
        identity = folder / "reader.key"
        identity.touch(mode=0o600)
        identity.write_text(arena.identity.text + "\n")
        self._producer = {"redis_url": arena.redis_url, "url_key": arena.url_key}
        self._reader = self._producer | {"identity_file": str(identity)}
        self._worker = self._producer | {
            "recipient": arena.identity.recipient.text,
            "allowed_hosts": arena.site.authority,
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.0/8",
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
            "concurrency": "16",
            "host_concurrency": "16",
            "deadline": "3s",
            "lease_seconds": "4s",
        }
        self.logs: dict[str, list[Path]] = {}
        self.sent: dict[str, set[str]] = {}

    @contextmanager
    def workers(self, release: Release) -> Iterator[Callable[[], None]]:
        """Start workers of a release and wait until they are ready; returns a function that ends them as Kubernetes does."""
        with ExitStack() as stack:
            processes = []
            for _ in range(WORKERS):
                logs = self.logs.setdefault(release.name, [])
                folder = self._folder / f"{release.name}-{len(logs)}"
                folder.mkdir()
                logs.append(folder / "worker.log")
                process = start_child(
                    release.command("worker", "worker"),
                    folder=folder,
                    log=logs[-1],
                    env=release.environment(self._worker),
                )
                stack.callback(end_child, process, grace=0)
                processes.append((process, logs[-1]))
            wait_for(lambda: all(b"ready." in log.read_bytes() for _, log in processes), seconds=60, what=release.name)

            def end() -> None:
                for process, _ in processes:
                    process.send_signal(signal.SIGTERM)
                assert [process.wait(timeout=60) for process, _ in processes] == [0] * WORKERS

            yield end

    def enqueue(self, release: Release) -> None:
        """Enqueue a batch of missions with a release's producer."""
        arena = self._arena
        numbers = range(len(arena.tickets), len(arena.tickets) + BATCH)
        urls = "".join(f"{arena.site.url(number)}\n" for number in numbers)
        done = subprocess.run(
            release.command("producer", "enqueue", "--from-file", "-", "--json", *release.enqueues),
            cwd=self._folder,
            env=release.environment(self._producer),
            input=urls,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
        arena.tickets |= dict(zip(ids, numbers, strict=True))
        self.sent.setdefault(release.name, set()).update(ids)

    def reveals(self, release: Release, mission_id: str) -> str:
        """The results that a release's reader opens."""
        done = subprocess.run(
            release.command("producer", "reveal", mission_id, "--reason", "a test", "--json"),
            cwd=self._folder,
            env=release.environment(self._reader),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (secret,) = json.loads(done.stdout)["secrets"]
        return str(secret["value"])

    def wait_for(self, finished: int) -> None:
        """Wait until this many missions have ended."""
        wait_for(lambda: self._arena.finished() >= finished, seconds=90, what=f"{finished} missions")

    def worked(self, release: Release) -> set[str]:
        """The missions that workers of a release have in their logs."""
        text = "".join(log.read_text() for log in self.logs[release.name])
        return {id_ for id_ in self._arena.tickets if id_ in text}

    def lines_with(self, text: str) -> list[str]:
        """Lines of any worker's log."""
        files = [log for logs in self.logs.values() for log in logs]
        return [line for log in files for line in log.read_text().splitlines() if text in line]


@pytest.mark.parametrize("pair", [last_tag_and_this_tree, a_change_of_the_format])
def test_an_upgrade_and_a_rollback_midway_lose_nothing_and_leave_nothing_unreadable(
    pair: Callable[[Path], tuple[Release, Release]], tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    older, newer = pair(tmp_path / "tree")
    with Arena(Report(f"{older.name} {newer.name}"), delay=0.1) as arena, ExitStack() as stack:
        cluster = Cluster(arena, tmp_path)
        end_older = stack.enter_context(cluster.workers(older))
        cluster.enqueue(older)
        cluster.wait_for(BATCH // 10)
        # The upgrade: both releases work, then only the newer workers; applications are upgraded later.
        end_newer = stack.enter_context(cluster.workers(newer))
        cluster.enqueue(newer)
        end_older()
        cluster.enqueue(older)
        cluster.wait_for(2 * BATCH + BATCH // 2)
        # The rollback: older workers take over the missions that newer ones left or admitted.
        stack.enter_context(cluster.workers(older))
        end_newer()
        cluster.enqueue(newer)
        arena.drain(90)
        report = arena.count()
        assert not report.problems, table([report])
        assert (report.accepted, report.succeeded, report.lost) == (MISSIONS, MISSIONS, 0), table([report])
        assert cluster.lines_with("does not read") == cluster.lines_with("malformed message") == []
        # The releases were mixed: each processed missions that the other admitted, and its reader opens results that the other sealed.
        for one, other in ((older, newer), (newer, older)):
            crossed = cluster.worked(one) & cluster.sent[other.name]
            assert len(crossed) > BATCH // 4, (one.name, len(crossed))
            sample = next(iter(cluster.worked(one) - cluster.worked(other)))
            assert cluster.reveals(other, sample) == str(arena.tickets[sample])
