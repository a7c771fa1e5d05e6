"""The systems under test: how to start each, give it work, and read its progress."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol, cast

import redis

from benchmarks import BROKER_VARIABLE, PROCESSES, RECIPIENT_VARIABLE, RESULTS_VARIABLE, SESSION_VARIABLE
from benchmarks.bare_loop import SHARES, mission_id
from benchmarks.site import SECRETS
from mission.errors import DecoderError
from mission.seal.sealing import Identity, open_secrets
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from producer import MissionClient
from worker.local.children import end_child, start_child
from worker.local.stack import Child, running_worker

# No mission is in flight at the end of a measurement, so none needs a grace period.
_GRACE_SECONDS = 0.0
# The most missions that a process of the bare loop takes at once: few enough that both processes end together, many enough to cost nothing.
_SHARE = 50
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Place:
    """The environment: Redis (we use its databases 0, 1 and 2), the site's hosts with their port, a folder for logs."""

    redis_url: str
    sites: Sequence[str]
    folder: Path

    def urls(self, count: int) -> list[str]:
        """The URLs of `count` documents, from each host in turn."""
        return [f"http://{site}/{number}" for number, site in zip(range(count), cycle(self.sites), strict=False)]

    def database(self, number: int) -> str:
        """The URL of one of Redis' databases."""
        return self.redis_url.removesuffix("/0") + f"/{number}"


class System(Protocol):
    """One contender."""

    name: str

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """Its worker processes, ready."""

    def enqueue(self, urls: Sequence[str]) -> None:
        """Give it work."""

    def finished(self) -> int:
        """Number of results since Redis was emptied.

        Raises:
            DecoderError: a mission failed, so the speed is meaningless.
        """

    def check(self) -> None:
        """Check that the last result matches its document.

        Raises:
            DecoderError: it does not.
        """


@contextmanager
def running(name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Child]:
    """Run a Python module as a child process that can import this package; its children end with it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / f"{name}.log"
    env = {**env, "PYTHONPATH": str(_ROOT)}
    process = start_child([sys.executable, "-m", *arguments], folder=folder, log=log, env=env)
    try:
        yield Child(name, process, log)
    finally:
        end_child(process, grace=_GRACE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Decoder:
    """This project, two workers. They inherit `DECODER_…` variables, except for the settings made here.

    `settings` and `client` are the producer's.

    Args:
        bulk: enqueue with `enqueue_many` rather than one by one with `enqueue`.
        processes: number of worker processes.
        settings: settings to change, by field name.
    """

    def __init__(
        self,
        place: Place,
        *,
        bulk: bool,
        processes: int = PROCESSES,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "decoder, enqueue_many" if bulk else "decoder, enqueue"
        self.processes = processes
        self._place = place
        self._bulk = bulk
        self._last = ""
        self._values = {
            "redis_url": place.redis_url,
            "url_key": generate_url_key(),
            "recipient": Identity.generate().recipient.text,
            "allowed_hosts": ",".join(place.sites),
            "allowed_schemes": "http",
            "allowed_networks": "127.0.0.0/8",
            "metrics_host": "127.0.0.1",
            "metrics_port": "0",
            "log_level": "info",  # readiness is read from the log
            # All documents are from one host: with the default limit, the benchmark would measure only that limit.
            "host_concurrency": "1024",
            **(settings or {}),
        }
        self.settings = Settings.from_env(redis_url=place.redis_url, url_key=self._values["url_key"])
        self.client = MissionClient(self.settings)

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """The worker processes, ready."""
        with self._worker() as child:
            child.wait_until(rf"(?s)(?:\bready\b.*){{{self.processes}}}")
            yield [child]

    def _worker(self) -> AbstractContextManager[Child]:
        """The parent of the worker processes."""
        return running_worker(self._folder(), self._values, processes=self.processes, grace=_GRACE_SECONDS)

    def _folder(self) -> Path:
        """A new folder for a process of this system."""
        return Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self._place.folder))

    def enqueue(self, urls: Iterable[str]) -> None:
        """Give it work."""
        if not self._bulk:
            for url in urls:
                self._last = self.client.enqueue(url).id
            return
        for verdict in self.client.enqueue_many(urls):
            if isinstance(verdict, DecoderError):
                raise verdict
            self._last = verdict.id

    def finished(self) -> int:
        """Number of missions that succeeded."""
        stats = self.client.stats()
        if stats.failed or stats.dead:
            raise DecoderError(f"{stats.failed} missions failed, {stats.dead} are dead: see the workers' logs")
        return stats.succeeded

    def check(self) -> None:
        """Check the last mission."""
        status = self.client.status(self._last)
        if status.secrets != SECRETS:
            raise DecoderError(f"the last mission has {status.secrets} secrets, not {SECRETS}")


class Peer:
    """The tutorial's task on another queue.

    Args:
        name: its name in the table.
        module: a module of this package; its `send` enqueues.
        arguments: the arguments of `python` that start the workers.
        ready: what a worker logs when it is ready; it appears `count` times in all.
        session: whether each thread keeps a `requests.Session`, as in a tuned setup.
    """

    def __init__(
        self, place: Place, *, name: str, module: str, arguments: Sequence[str], ready: str, count: int, session: bool
    ) -> None:
        self.name = f"{name}, session" if session else name
        self._folder = place.folder
        self._arguments = arguments
        self._ready = rf"(?s)(?:{ready}.*){{{count}}}"
        self._starts = 0
        self._last = -1
        self._env = _redis_of(place) | ({SESSION_VARIABLE: "1"} if session else {})
        os.environ.update(_redis_of(place))  # the module reads them on import, so it is imported again for each place
        sys.modules.pop(module, None)
        self._send: Callable[[int, str], None] = importlib.import_module(module).send
        self._results = redis.Redis.from_url(place.database(2))

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """The main process, with all its workers ready."""
        self._starts += 1
        folder = self._folder / f"{self.name}-{self._starts}"
        with running("workers", self._arguments, folder, os.environ | self._env) as child:
            child.wait_until(self._ready)
            yield [child]

    def enqueue(self, urls: Sequence[str]) -> None:
        """Give it work."""
        for url in urls:
            self._last += 1
            self._send(self._last, url)

    def finished(self) -> int:
        """Number of results."""
        return self._results.dbsize()

    def check(self) -> None:
        """Check the last result."""
        found: list[Any] = json.loads(cast("bytes", self._results.get(f"result:{self._last}")))
        if len(found) != SECRETS:
            raise DecoderError(f"the last result has {len(found)} secrets, not {SECRETS}")


class BareLoop:
    """The upper limit: the work that every contender does for a mission, in two processes, without a queue."""

    name = "bare loop"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._starts = 0
        self._last = -1
        self._identity = Identity.generate()
        self._env = _redis_of(place) | {RECIPIENT_VARIABLE: self._identity.recipient.text}
        self._shares, self._results = (redis.Redis.from_url(place.database(number)) for number in (1, 2))

    @contextmanager
    def workers(self) -> Iterator[list[Child]]:
        """The processes, ready."""
        self._starts += 1
        with ExitStack() as stack:
            children = []
            for number in range(PROCESSES):
                folder = self._place.folder / f"bare-{self._starts}-{number}"
                children.append(
                    stack.enter_context(
                        running("loop", ["benchmarks.bare_loop", str(number)], folder, os.environ | self._env)
                    )
                )
            for child in children:
                child.wait_until("ready")
            yield children

    def enqueue(self, urls: Sequence[str]) -> None:
        """Queue shares; each process takes the next share when it is done, so that both are busy until the end."""
        numbered = list(enumerate(urls, self._last + 1))
        self._last += len(urls)
        size = max(1, min(_SHARE, len(urls) // (8 * PROCESSES)))
        shares = (json.dumps(numbered[start : start + size]) for start in range(0, len(numbered), size))
        self._shares.rpush(SHARES, *shares)

    def finished(self) -> int:
        """Number of results."""
        return self._results.dbsize()

    def check(self) -> None:
        """Decrypt and check the last result."""
        record = cast("bytes", self._results.get(f"result:{self._last}"))
        found = open_secrets(self._identity, record, mission_id=mission_id(self._last), token=self._last)
        if len(found) != SECRETS:
            raise DecoderError(f"the last result has {len(found)} secrets, not {SECRETS}")


def _redis_of(place: Place) -> dict[str, str]:
    return {BROKER_VARIABLE: place.database(1), RESULTS_VARIABLE: place.database(2)}


def contenders(place: Place) -> list[System]:
    """The decoder first, then its peers (tuned, and as in their tutorials), then the limit."""

    def celery(*, session: bool) -> Peer:
        arguments = ["celery", "-A", "benchmarks.celery_peer", "worker", f"-c{PROCESSES}", "--loglevel=INFO"]
        if session:  # as Celery's own guide advises for many short tasks
            arguments += ["--prefetch-multiplier=64", "--without-gossip", "--without-mingle"]
        return Peer(
            place,
            name="Celery",
            module="benchmarks.celery_peer",
            arguments=arguments,
            ready=r"\bready\.",
            count=1,
            session=session,
        )

    def dramatiq(*, session: bool) -> Peer:
        return Peer(
            place,
            name="Dramatiq",
            module="benchmarks.dramatiq_peer",
            arguments=["dramatiq", "benchmarks.dramatiq_peer", f"-p{PROCESSES}", "-t8"],
            ready="ready for action",
            count=PROCESSES,
            session=session,
        )

    return [
        Decoder(place, bulk=True),
        Decoder(place, bulk=False),
        dramatiq(session=True),
        dramatiq(session=False),
        celery(session=True),
        celery(session=False),
        BareLoop(place),
    ]
