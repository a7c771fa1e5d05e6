"""The names of all the decoder's keys and channels in Redis. No other file spells one; the Lua scripts get theirs from here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from mission.model import Priority

# One hash tag for all keys: Redis Cluster keeps them in one slot.
PREFIX = "{decoder}:"


class Key(StrEnum):
    """The decoder's own keys. A name that ends with a colon is a prefix, for a key of a mission, a host or a submitter."""

    # Missions.
    ENTRY = PREFIX + "m:"  # hash: what the ledger knows of a mission
    RESULT = PREFIX + "r:"  # string: a sealed result
    BATCH = PREFIX + "batch:"  # hash: the ids of missions enqueued together, by the first id of each call
    # Indexes of missions: sorted sets.
    # Missions that wait for a worker, by arrival; one index per priority. The first is for `normal`.
    QUEUED = PREFIX + "queued"
    QUEUED_HIGH = PREFIX + "queued_high"
    QUEUED_LOW = PREFIX + "queued_low"
    LEASES = PREFIX + "leases"  # running missions, by the end of their lease in ms
    DUE = PREFIX + "due"  # missions to retry that wait for no host, by their due time in ms
    DUE_OF = PREFIX + "due:"  # missions that wait for one host, by their due time in ms
    DUE_HOSTS = PREFIX + "due_hosts"  # these hosts, by the time of their turn in ms
    OPEN = PREFIX + "open"  # unfinished missions, by their submission time in ms
    EXPIRY = PREFIX + "expiry"  # unfinished missions, by their expiry time in ms
    DEAD = PREFIX + "dead"  # dead letters, by their time of death in ms
    # Turns among the waiting missions.
    LINE = PREFIX + "line:"  # list: the missions of a priority and a submitter, in order; some may be gone
    RING = PREFIX + "ring:"  # sorted set: the submitters of a priority, by their last turn
    TURNS = PREFIX + "turns"  # hash: count of claims by turns, and each priority's progress
    # The ledger's counters and marks.
    SEQ = PREFIX + "seq"  # number of missions queued so far
    HEAD = PREFIX + "head"  # how far the queue has advanced, for workers of the last release
    LOOKED = PREFIX + "looked"  # how far their search for lost messages has advanced
    TOKEN = PREFIX + "token"  # the newest fencing token
    REAPER = PREFIX + "reaper"  # exists during a reaper's turn
    FINISHED = PREFIX + "finished"  # hash: number of ended missions, by state
    REFUSALS = PREFIX + "refusals"  # hash: number of refused admissions, by reason
    KEYS_SEEN = PREFIX + "keys"  # hash: time of each cryptographic key's first use
    DAMAGED = PREFIX + "damaged"  # hash: missions whose entry no release could have written, with what is wrong
    ASIDE = PREFIX + "damaged:"  # a key of the wrong type, by the rest of its name, until a person has looked at it
    # Hosts and submitters.
    HOSTS = PREFIX + "hosts"  # hash: the breaker of each failing host
    QUOTA = PREFIX + "quota:"  # a submitter's theoretical arrival time (GCRA), in ms
    STORED = PREFIX + "stored:"  # hash: bytes of a submitter's sealed results, by expiry time in ms
    # The audit: append-only lists, by the logins' rights.
    AUDIT = PREFIX + "audit:people"  # human actions
    # What workers record of the keys that they use. A compromised worker cannot reach the other chain.
    AUDIT_KEYS = PREFIX + "audit:workers"
    # Streams.
    QUARANTINE = PREFIX + "quarantine"  # size and hash of malformed messages
    OUTCOMES = PREFIX + "outcomes"  # how missions ended; only the newest are kept
    # Groups of readers of the outcomes.
    GROUP = PREFIX + "group:"  # hash: a group's position
    HELD = (
        PREFIX + "held:"
    )  # sorted set: outcomes that its readers hold, by the time when another reader gets them, in ms


# Names of Celery and kombu, and patterns of them.
QUEUE = "missions"
QUEUE_OF: Mapping[Priority, str] = {
    Priority.HIGH: QUEUE + "-high",
    Priority.NORMAL: QUEUE,
    Priority.LOW: QUEUE + "-low",
}
QUEUES = QUEUE + "*"  # one per priority, and the queues of the guard's checks
CHECK_QUEUE = QUEUE + "-guard-"  # followed by an id, one for each check; refusals there are intended
CHECK_QUEUES = CHECK_QUEUE + "*"
QUEUE_BINDINGS = f"_kombu.binding*.{QUEUES}"
UNACKED = "unacked"
UNACKED_INDEX = "unacked_index"
UNACKED_MUTEX = "unacked_mutex"
TASK_RESULTS = "celery-task-meta-*"
EVENT_QUEUES = "celeryev.*"
CELERY_BINDINGS = "_kombu.binding*celery*"
# Channels. Celery's contain the database number, and a login may only subscribe to a pattern that is granted literally. So
# everything stays in database 0.
EVENTS = "/0.celeryev/*"
REMOTE_CONTROL = "/0.celery.pidbox"  # no login has a right to it
ENDED = PREFIX + "ended:"  # followed by a mission's id: that the mission has ended


INDEX_OF: Mapping[Priority, Key] = {
    Priority.HIGH: Key.QUEUED_HIGH,
    Priority.NORMAL: Key.QUEUED,
    Priority.LOW: Key.QUEUED_LOW,
}
# The indexes: each holds a mission at most once.
INDEXES = (*INDEX_OF.values(), Key.LEASES, Key.DUE, Key.OPEN, Key.EXPIRY, Key.DEAD)
# A worker sets these keys aside if their type is wrong, since they would block everything. Only a person repairs the audit's keys.
TYPES: Mapping[str, str] = {
    **dict.fromkeys((*INDEXES, *(Key.RING + priority for priority in Priority), Key.DUE_HOSTS, UNACKED_INDEX), "zset"),
    **dict.fromkeys((Key.SEQ, Key.HEAD, Key.LOOKED, Key.TOKEN, Key.REAPER, UNACKED_MUTEX), "string"),
    **dict.fromkeys((Key.TURNS, Key.FINISHED, Key.REFUSALS, Key.KEYS_SEEN, Key.DAMAGED, Key.HOSTS, UNACKED), "hash"),
    # kombu has separate lists for the priorities of its messages.
    **{f"{queue}{step}": "list" for queue in QUEUE_OF.values() for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")},
    **{f"_kombu.binding.{queue}": "set" for queue in QUEUE_OF.values()},
    **dict.fromkeys((Key.QUARANTINE, Key.OUTCOMES), "stream"),
}

_RESULT_KEY = re.compile(re.escape(Key.RESULT) + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):(\d{1,19})")


def entry_key(mission_id: str) -> str:
    """The key of a mission's ledger entry."""
    return Key.ENTRY + mission_id


def batch_key(batch_id: str) -> str:
    """The key of a batch's ids."""
    return Key.BATCH + batch_id


def result_key(mission_id: str, token: int) -> str:
    """The key of the sealed result that the holder of `token` wrote."""
    return f"{Key.RESULT}{mission_id}:{token}"


def result_keys(mission_id: str = "*") -> str:
    """The pattern of a mission's result keys; by default, of all missions."""
    return f"{Key.RESULT}{mission_id}:*"


def parse_result_key(key: str) -> tuple[str, int] | None:
    """Mission and token of a result's key; None if the key is not one."""
    match = _RESULT_KEY.fullmatch(key)
    return (match[1], int(match[2])) if match else None
