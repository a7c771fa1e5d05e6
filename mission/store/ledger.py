"""The ledger: the truth about every mission, in Redis. Celery only moves the work.

Each state change is one Lua function in `mission/store/lua/`, atomic on the server and timed by its clock. A `claim` hands out a
lease and a fencing token; only the holder of the current token commits (Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import redis

from mission.errors import UnknownMission
from mission.ids import is_mission_id
from mission.model import Claim, MissionStatus, Priority, Reason, State, Stats
from mission.settings import Settings
from mission.store import scripts
from mission.store.changes import Admission, Admitted, Claimed, Commit, Mended, Reaped, Release
from mission.store.connection import outages
from mission.store.entries import STATUS_FIELDS, known, number, priority_of, read_entries, status_of, word
from mission.store.messages import IDS_PER_MESSAGE, wake_ups
from mission.store.names import INDEX_OF, QUEUE_OF, TYPES, Key, batch_key, result_key
from mission.store.notices import EndNotice, EndNotices
from mission.store.outcomes import Ends, Outcomes
from mission.store.scripts import Scripts, as_text

REAP_INTERVAL_SECONDS = 1.0
REAP_LIMIT = 1000
# How long a key stays set aside: a person has time to look at it, and no garbage stays forever.
ASIDE_SECONDS = 7 * 86_400


class Ledger:
    """The only class that accesses the ledger's keys.

    Every method raises `LedgerUnavailable` if Redis does not answer in time or refuses.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self._settings = settings
        self._scripts = Scripts(client, settings)
        self._notices = EndNotices(client)
        self.outcomes = Outcomes(client, settings)

    def admit(
        self,
        admissions: Sequence[Admission],
        submitter: str,
        batch_id: str = "",
        priority: Priority = Priority.NORMAL,
    ) -> list[Admitted]:
        """Admit missions of one submitter and wake workers for them, in one atomic call. Repeating it with the same ids changes nothing.

        With a batch, its ids are kept as long as its entries may exist. An existing mission keeps its priority.
        """
        quota, seconds = self._settings.quota_rate
        limits = (self._settings.queue_limit, quota, seconds * 1000, int(self._settings.stored_quota))
        messages = wake_ups([admission.id for admission in admissions], QUEUE_OF[priority])
        batch = (batch_id, self._ttl + math.ceil(self._settings.max_age))
        args: list[Any] = [scripts.WRITES, submitter, *limits, IDS_PER_MESSAGE, *batch, len(messages), *messages]
        for admission in admissions:
            named = json.dumps([(*one[:3], int(one.alone)) for one in admission.known]) if admission.known else ""
            args += [admission.id, admission.url_record, round(admission.lifetime_seconds * 1000), named]
        if priority is not Priority.NORMAL:  # the functions of the last release take no priority
            args.append(priority)
        answers = self._scripts.run("admit", *args, replicated=True)
        found = [Admitted(admission.id, State.QUEUED, False, priority=priority) for admission in admissions]
        known_before = dict[int, str]()
        for place, *answer in answers:
            found[place - 1] = admitted = _admitted(*map(as_text, answer))
            if admitted.duplicate:
                known_before[place - 1] = admitted.id
        entries = read_entries(self.client, list(known_before.values()), ("priority",)) if known_before else ()
        for place, entry in zip(known_before, entries, strict=True):
            found[place] = replace(found[place], priority=priority_of(entry))
        return found

    def claim(
        self,
        count: int,
        lease_seconds: float,
        *,
        waited_seconds: float | None = None,
        only: Priority | None = None,
        suspect: bool = True,
        suspect_after: int = 0,
        suspect_delay_seconds: float = 0.0,
    ) -> Claimed:
        """Take a lease on up to `count` missions whose turn it is, by priority and submitter.

        Args:
            count: how many at most.
            lease_seconds: after this time, an unfinished mission goes to another worker.
            waited_seconds: claim only if the oldest mission of a priority has waited this long.
            only: claim only this priority. Claims beyond its share still count as its turns.
            suspect: whether one suspect may be among them.
            suspect_after: a mission that lost this many leases is a suspect; with 0 none is.
            suspect_delay_seconds: after this time, suspects that were not claimed are due again.
        """
        rule = (int(suspect), suspect_after, round(suspect_delay_seconds * 1000))
        args: list[Any] = [*scripts.READS, count, round(lease_seconds * 1000), self._ttl, *rule, _now_ms()]
        args.append("" if waited_seconds is None else round(waited_seconds * 1000))
        if only is not None:
            args.append(only)
        now, claims, expired, unreadable, more = self._scripts.run("next", *args)
        return Claimed(
            claims=[
                Claim(
                    id=as_text(id_),
                    token=int(token),
                    attempt=int(attempt),
                    submitter=as_text(submitter),
                    url_record=url,
                    submitted_at_ms=int(submitted),
                    expires_at_ms=int(expires),
                    now_ms=int(now),
                    priority=as_text(priority),
                    lost_leases=lost,
                    suspect=0 < suspect_after <= lost,
                )
                for id_, token, attempt, submitter, url, submitted, expires, lost, priority in claims
            ],
            expired=list(map(as_text, expired)),
            unreadable=list(map(as_text, unreadable)),
            more=bool(more),
        )

    def commit(self, commits: Sequence[Commit], result_ttl: float) -> list[State | None]:
        """End missions, each with its result, in one transaction; return the state that each is in now.

        None for a mission whose token is no longer current; `DEAD` if its result would have exceeded its submitter's
        `DECODER_STORED_QUOTA`.

        The sealed record is written beside the function call, not by it: a worker's login may not read results, and a key that a
        call declares counts as read. If the record does not count, the function deletes it in the same transaction.
        """
        seconds = max(1, round(result_ttl))

        def queue(pipe: Any) -> None:
            for commit in commits:
                if commit.record is not None:
                    pipe.set(result_key(commit.id, commit.token), commit.record, ex=seconds)
                secrets = "" if commit.secrets is None else commit.secrets
                ending = (commit.id, commit.token, commit.state, commit.reason or "", secrets, self._ttl)
                stored = (len(commit.record or b""), seconds * 1000, int(self._settings.stored_quota))
                self._scripts.put(pipe, "commit", *ending, *stored, ",".join(sorted(commit.cut)), commit.allowed_by)

        answers = map(as_text, self._scripts.send(queue, transaction=True, replicated=True))
        return [None if answer == "stale" else State(answer) for answer in answers if answer != "OK"]  # the SETs

    def release(self, releases: Sequence[Release], max_attempts: int) -> list[State | None]:
        """Give missions back; `DEAD` for a mission without attempts left, None for one whose token is no longer current."""

        def queue(pipe: Any) -> None:
            for item in releases:
                delay = max(0, round(item.delay_seconds * 1000))
                rule = (delay, int(item.uses_attempt), max_attempts, self._ttl)
                told = (item.host, item.allowed_by)
                self._scripts.put(pipe, "release", item.id, item.token, item.reason.value, *rule, *told)

        answers = map(as_text, self._scripts.send(queue))
        return [None if answer == "stale" else State(answer) for answer in answers]

    def reap(self, max_attempts: int, suspect_after: int) -> Reaped:
        """Find expired leases, and missions that are too old.

        Args:
            max_attempts: how many attempts a mission has.
            suspect_after: how many lost leases use up no attempt.
        """
        interval = round(REAP_INTERVAL_SECONDS * 900)
        args = ("", 0, REAP_LIMIT, max_attempts, self._ttl, interval, _now_ms(), suspect_after)
        again, _, dead, leases, _ = self._scripts.run("reap", *args)
        return Reaped(
            again=list(map(as_text, again)),
            dead=[(as_text(id_), Reason(as_text(reason))) for id_, reason in dead],
            leases_expired=leases,
        )

    def mend(self, longest_lease: float, longest_wait: float) -> list[Mended]:
        """Repair whatever would block all functions: keys of another type, broken counters, times too far ahead.

        Args:
            longest_lease: the longest possible lease, in seconds.
            longest_wait: the longest possible wait between two attempts, in seconds.
        """
        times = (longest_lease * 1000, longest_wait * 1000, REAP_INTERVAL_SECONDS * 2000)
        types = chain.from_iterable(TYPES.items())
        return [
            Mended(as_text(key), as_text(was))
            for key, was in self._scripts.run("mend", ASIDE_SECONDS, *map(round, times), *types)
        ]

    def take_due(self, count: int) -> tuple[list[str], bool]:
        """Take up to `count` due missions, from each host in turn, to publish them; and whether there are more."""
        ids, more = self._scripts.run("due", count)
        return list(map(as_text, ids)), bool(more)

    def wake(self, ids: Sequence[str]) -> None:
        """Put messages for missions on the queues of their priorities."""
        queues = defaultdict[str, list[str]](list)
        for id_, entry in zip(ids, read_entries(self.client, ids, ("priority",)) if ids else (), strict=True):
            priority = priority_of(entry)
            queues[QUEUE_OF[priority if isinstance(priority, Priority) else Priority.NORMAL]].append(id_)
        with outages():
            for queue, some in queues.items():
                self.client.lpush(queue, *wake_ups(some, queue))

    def listen(self, mission_ids: Collection[str]) -> AbstractContextManager[EndNotice | Ends]:
        """Hear at once of the ends of missions in the collection, which may change."""
        if len(mission_ids) == 1:
            return self._notices.of(next(iter(mission_ids)))
        return nullcontext(Ends(self.outcomes, mission_ids))

    def waiting(self) -> int:
        """The number of messages in all queues."""
        pipe: Any
        with outages(), self.client.pipeline(transaction=False) as pipe:
            for queue in QUEUE_OF.values():
                pipe.llen(queue)
            return sum(pipe.execute())

    def host_failed(self, host: str, submitter: str, threshold: int, pause_seconds: float) -> bool:
        """Count a submitter's fetch that did not reach its host; return whether the host is now paused for all workers.

        A pause needs `threshold` consecutive failures. If they are all of one submitter, also no recent successful fetch.
        """
        return bool(self._scripts.run("host", "failed", host, round(pause_seconds * 1000), threshold, submitter))

    def host_reached(self, host: str) -> None:
        """Forget a host's failures, since it answered."""
        self._scripts.run("host", "reached", host, 0)

    def host_probe(self, host: str, pause_seconds: float) -> bool:
        """Whether the caller may try a paused host now."""
        return bool(self._scripts.run("host", "probe", host, round(pause_seconds * 1000)))

    def host_unprobed(self, host: str) -> None:
        """Report that the probe of a paused host was inconclusive: another worker may try."""
        self._scripts.run("host", "unprobed", host, 0)

    def hosts(self) -> dict[str, float]:
        """The failing hosts, and for how many seconds each is still paused.

        0 or less if its pause is over and it needs a probe; minus infinity if it has not been paused.
        """
        now, *found = self._scripts.run("hosts")
        pairs = zip(map(as_text, found[::2]), map(int, found[1::2]), strict=True)
        return {host: (until - now) / 1000 if until else -math.inf for host, until in pairs}

    def status(self, mission_id: str) -> MissionStatus:
        """A mission's status. Values that a newer release stored are returned as they are.

        Raises:
            UnknownMission: the ledger holds no such mission, or no longer.
        """
        (status,) = self.statuses([mission_id])
        if status is None:
            raise UnknownMission(mission_id)
        return status

    def statuses(self, ids: Sequence[str]) -> list[MissionStatus | None]:
        """The statuses of many missions, in their order; None for one that the ledger does not hold."""
        entries = read_entries(self.client, ids, STATUS_FIELDS)
        return [status_of(id_, entry) if entry.get("state") else None for id_, entry in zip(ids, entries, strict=True)]

    def batch(self, batch_id: str) -> Iterator[list[str]]:
        """The ids of a batch's missions, a few hundred at a time. An id appears twice if it was enqueued twice."""
        key = batch_key(batch_id)
        with outages():
            for _, ids in self.client.hscan_iter(key, count=64):
                text = as_text(ids)
                yield [id_ for at in range(0, len(text), 36) if is_mission_id(id_ := text[at : at + 36])]

    def stats(self) -> Stats:
        """The number of missions in each state. Succeeded and failed count all since the ledger began."""
        now, *counts = self._scripts.run("stats", "priorities")
        high, normal, low = counts[8:] or (
            0,
            counts[0],
            0,
        )  # the functions of the last release return only these
        counts, oldest = counts[:7], counts[7]
        names = ("queued", "running", "retrying", "dead", "succeeded", "failed", "cancelled")
        found = {name: number(as_text(count).encode()) or 0 for name, count in zip(names, counts, strict=True)}
        return Stats(
            **found,
            oldest_seconds=max(0.0, (now - oldest) / 1000) if oldest else 0.0,
            queued_high=high,
            queued_normal=normal,
            queued_low=low,
        )

    def waits(self) -> dict[Priority, float]:
        """The wait in seconds of the first mission of each priority; 0 if none waits. A worker's login may call this."""
        pipe: Any
        with outages(), self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            for index in INDEX_OF.values():
                pipe.zrange(index, 0, 0)
            (seconds, micros), *first = pipe.execute()
        now = seconds + micros / 1e6
        waits = dict.fromkeys(INDEX_OF, 0.0)
        oldest = {priority: as_text(ids[0]) for priority, ids in zip(INDEX_OF, first, strict=True) if ids}
        entries = read_entries(self.client, list(oldest.values()), ("submitted_at",)) if oldest else ()
        for priority, entry in zip(oldest, entries, strict=True):
            since = number(entry.get("submitted_at"))
            waits[priority] = max(0.0, now - since / 1000) if since else 0.0
        return waits

    def refusals(self) -> dict[str, int]:
        """The number of refused admissions since the ledger began, by reason."""
        with outages():
            found = cast("dict[bytes, bytes]", self.client.hgetall(Key.REFUSALS))
        return {word(reason): number(count) or 0 for reason, count in found.items()}

    def damaged(self) -> int:
        """The number of missions found whose entry no release could have written."""
        with outages():
            return int(self.client.hlen(Key.DAMAGED))

    def keys_seen(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """When each key, named by kind and id, was first passed here, in seconds since the epoch; a new key gets the current time.

        A file's date does not work: in a pod, it is the date of the mount.
        """
        names = {f"{kind}:{key}": (kind, key) for kind, key in keys}
        if not names:
            return {}
        with outages():
            found = [number(seen) for seen in cast("list[Any]", self.client.hmget(Key.KEYS_SEEN, list(names)))]
            if None in found:
                seconds, _ = self.client.time()
                new = {name: seconds for name, seen in zip(names, found, strict=True) if seen is None}
                self.client.hset(Key.KEYS_SEEN, mapping=cast("Any", new))
                found = [seconds if seen is None else seen for seen in found]
        return dict(zip(names.values(), map(float, cast("list[int]", found)), strict=True))

    def count_refusals(self, reason: Reason, count: int = 1) -> None:
        """Count admissions that were refused before `admit`."""
        with outages():
            self.client.hincrby(Key.REFUSALS, reason.value, count)

    @property
    def _ttl(self) -> int:
        return max(1, round(self._settings.ledger_ttl))


def _now_ms() -> int:
    return round(time.time() * 1000)


def _admitted(verdict: str, mission_id: str, detail: str) -> Admitted:
    if verdict == "duplicate":
        return Admitted(mission_id, known(State, word(detail.encode())), duplicate=True)
    return Admitted(mission_id, None, duplicate=False, refusal=Reason(verdict), retry_after=float(detail) / 1000)
