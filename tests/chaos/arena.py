"""The setting of a scenario: a Valkey (AOF `always`), workers, a site, producers; and the count at the end."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from mission.model import State
from mission.seal.sealing import Identity, open_secrets
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.names import PREFIX, QUEUE_OF, entry_key, result_key
from producer import MissionClient
from tests.chaos.load import Load
from tests.chaos.report import Report
from tests.chaos.site import Site
from tests.chaos.workers import Nursery, Worker
from worker.local.embedded import EmbeddedRedis
from worker.local.stack import stack_environment
from worker.settings import URGENT_FETCHES

CONCURRENCY = 16
_SLICE = 1000


class Arena:
    """The environment of one scenario; a context manager that leaves nothing behind.

    Start it and kill its server from the same thread: the server ends with the thread that started it.

    Args:
        report: receives the counts.
        hooks: the nursery's hooks for every worker.
        delay: how long the site takes to answer, in seconds.
        data_dir: folder for the server's data; by default a temporary one.
        hosts: hosts that workers may fetch from, in addition to the site.
        worker: additional settings of the workers; `producer` those of the client.

    Attributes:
        redis_url: the ledger's URL for workers and producers; may be changed before the first of them starts.
        tickets: accepted missions that are not part of a load: id to the number in the document.
    """

    def __init__(
        self,
        report: Report,
        *,
        hooks: Sequence[str] = ("quick",),
        delay: float = 0.1,
        data_dir: Path | None = None,
        hosts: Sequence[str] = (),
        worker: Mapping[str, str] | None = None,
        producer: Mapping[str, str] | None = None,
    ) -> None:
        self.report = report
        self.site = Site(delay)
        self.server = EmbeddedRedis(data_dir)
        self.identity = Identity.generate()
        self.url_key = generate_url_key()
        self.workers: list[Worker] = []
        self._hooks = tuple(hooks)
        self._hosts = [self.site.authority, *hosts]
        self._worker = dict(worker or {})
        self._producer = dict(producer or {})
        self.tickets: dict[str, int] = {}
        self.redis_url = ""
        self._nurseries: dict[tuple[str, ...], Nursery] = {}
        self._loads: list[Load] = []
        self._marks: list[tuple[int, list[str]]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="decoder-chaos-")))
            stack.enter_context(self.server)
            stack.enter_context(self.site)
            self.redis = redis.Redis.from_url(self.server.url, retry=Retry(ConstantBackoff(0.1), 100))
            stack.callback(self.redis.close)
            self.redis_url = self.server.url
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    # The players

    def producer_values(self) -> dict[str, str]:
        """A producer's settings."""
        return {"redis_url": self.redis_url, "url_key": self.url_key} | self._producer

    def client(self) -> MissionClient:
        """A producer."""
        return MissionClient(Settings.from_env(**self.producer_values()))

    def _nursery(self, hooks: tuple[str, ...]) -> Nursery:
        """The nursery that forks workers with these hooks."""
        if hooks in self._nurseries:
            return self._nurseries[hooks]
        values = {
            "redis_url": self.redis_url,
            "url_key": self.url_key,
            "recipient": self.identity.recipient.text,
            "allowed_hosts": ",".join(self._hosts),
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.0/8",
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
            "concurrency": str(CONCURRENCY),
            "host_concurrency": str(CONCURRENCY + URGENT_FETCHES),
            "deadline": "3s",
            "lease_seconds": "4s" if "quick" in hooks else "18s",
        }
        nursery = Nursery(self.folder / "-".join(["workers", *hooks]), stack_environment(values | self._worker), hooks)
        self._nurseries[hooks] = self._stack.enter_context(nursery)
        return nursery

    def start_workers(self, count: int, *hooks: str) -> None:
        """Start workers and wait until they are ready; `hooks` are added to the arena's."""
        started = [self.start_worker(*hooks) for _ in range(count)]
        self.wait(lambda: all(worker.ready() for worker in started), 60, "the workers")

    def start_worker(self, *hooks: str) -> Worker:
        """Start one worker without waiting."""
        worker = self._nursery((*hooks, *self._hooks)).start()
        self.workers.append(worker)
        return worker

    def alive(self) -> list[Worker]:
        """The running workers."""
        return [worker for worker in self.workers if not worker.ended()]

    def load(
        self, count: int | None, *, per_second: float = 1e9, chunk: int = 16, url: Callable[[int], str] | None = None
    ) -> Load:
        """A load of documents, to be entered; its tickets are counted at the end."""
        load = Load(self.client(), url or self.site.url, count, per_second=per_second, chunk=chunk)
        self._loads.append(load)
        return load

    # The course of it

    def mark(self) -> None:
        """Note the missions in flight now, just before a disturbance."""
        seconds, micros = self.redis.time()
        ids = cast("list[bytes]", self.redis.zrange(PREFIX + "leases", 0, -1))
        self._marks.append((seconds * 1000 + micros // 1000, [id_.decode() for id_ in ids]))

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> bool:
        """Whether a condition holds in time; a timeout is noted as a problem."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self.report.expect(False, f"waited {seconds:g} s in vain for {what}")
                return False
            time.sleep(0.05)
        return True

    def open_missions(self) -> int:
        """How many missions are not in a terminal state."""
        return self.redis.zcard(PREFIX + "open")

    def running(self, load: Load) -> list[str]:
        """The missions of a load that are leased."""
        leased = {id_.decode() for id_ in cast("list[bytes]", self.redis.zrange(PREFIX + "leases", 0, -1))}
        return [id_ for id_ in load.tickets if id_ in leased]

    def queue_length(self) -> int:
        """How many messages are queued."""
        return sum(self.redis.llen(queue) for queue in QUEUE_OF.values())

    def finished(self) -> int:
        """How many ends the ledger has counted."""
        return sum(map(int, cast("list[bytes]", self.redis.hvals(PREFIX + "finished"))))

    def drain(self, seconds: float) -> None:
        """Wait until every accepted mission is finished; the report gets the time."""
        began = time.monotonic()
        self.wait(lambda: self.open_missions() == 0, seconds, f"the last missions ({self.open_missions()} open)")
        self.report.drained = time.monotonic() - began

    def count(self) -> Report:
        """Count the state of every ticket in the ledger, and check every result."""
        report = self.report
        tickets = dict(self.tickets)
        for load in self._loads:
            tickets |= load.tickets
        report.accepted = len(tickets)
        ends: dict[str, int] = {}
        states: dict[str, State] = {}
        reasons: Counter[str] = Counter()
        for id_, state, reason, finished_at, mine in self._outcomes(tickets):
            match state:
                case State.SUCCEEDED:
                    report.succeeded += 1
                    report.doubled += not mine
                case State.FAILED:
                    report.failed += 1
                case State.DEAD:
                    report.dead += 1
                case _:
                    report.lost += 1
            reasons.update([reason] if reason else [])
            ends[id_] = finished_at
            if state is not None and state.terminal:
                states[id_] = state
        report.notes += [f"reasons: {dict(reasons)}"] * bool(reasons)
        report.doubled += self._ended_twice()
        waits = [ends[id_] - at for at, ids in self._marks for id_ in ids if ends.get(id_, 0) >= at]
        report.slowest = max([0, *waits]) / 1000
        untold, invented = self._told(states)
        report.expect(not untold, f"of {untold} ends the outcomes say nothing")
        report.expect(not invented, f"{invented} outcomes tell of missions that have not ended")
        report.expect(report.lost == 0, f"{report.lost} accepted missions are lost")
        report.expect(report.doubled == 0, f"{report.doubled} missions have two ends, or not their own result")
        return report

    def _outcomes(self, tickets: Mapping[str, int]) -> Iterable[tuple[str, State | None, str, int, bool]]:
        """For each ticket: its state and reason, when it ended (ms), and whether its result opens and is its own."""
        ids = list(tickets)
        for start in range(0, len(ids), _SLICE):
            part = ids[start : start + _SLICE]
            with self.redis.pipeline(transaction=False) as pipe:
                for id_ in part:
                    pipe.hmget(entry_key(id_), "state", "reason", "token", "finished_at")
                entries = pipe.execute()
                for id_, (_, _, token, _) in zip(part, entries, strict=True):
                    pipe.get(result_key(id_, int(token or 0)))
                records = pipe.execute()
            for id_, (state, reason, token, finished_at), record in zip(part, entries, records, strict=True):
                mine = record is not None and self._holds(record, id_, int(token), tickets[id_])
                yield (
                    id_,
                    State(state.decode()) if state else None,
                    (reason or b"").decode(),
                    int(finished_at or 0),
                    mine,
                )

    def _holds(self, record: bytes, id_: str, token: int, number: int) -> bool:
        secrets = open_secrets(self.identity, record, mission_id=id_, token=token)
        return [secret.value for secret in secrets] == [str(number)]

    def _told(self, states: Mapping[str, State]) -> tuple[int, int]:
        """How many of these ended missions lack a matching outcome; and how many outcomes do not match a mission's end."""
        client = self.client()
        told = {(one.id, one.state) for one in client.outcomes(since=datetime.fromtimestamp(0, UTC), follow=False)}
        # Includes missions whose admission was never answered.
        found = client.statuses(id_ for id_, _ in told)
        return len(states.items() - told), len(told - {(one.id, one.state) for one in found if one and one.finished})

    def _ended_twice(self) -> int:
        """By how many the counted ends exceed the ended missions in the ledger."""
        ended = 0
        keys = list(self.redis.scan_iter(entry_key("*"), count=_SLICE))
        for start in range(0, len(keys), _SLICE):
            with self.redis.pipeline(transaction=False) as pipe:
                for key in keys[start : start + _SLICE]:
                    pipe.hget(key, "state")
                ended += sum(State(state.decode()).terminal for state in pipe.execute())
        return self.finished() - ended


def no_settings_from_outside() -> None:
    """The developer's own settings must not affect a scenario."""
    for name in [name for name in os.environ if name.startswith("DECODER_")]:
        del os.environ[name]
