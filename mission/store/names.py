"""Every key and channel that the decoder has in Redis, by name. Nothing else spells one: the Lua scripts get theirs from here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from mission.model import Priority

# One hash tag for all: Redis Cluster holds them in one slot.
PREFIX = "{decoder}:"


class Key(StrEnum):
    """The decoder's own keys. Those that end with a colon are beginnings: of a mission's, a host's, a submitter's key."""

    # Missions.
    ENTRY = PREFIX + "m:"  # hash: what the ledger knows of a mission
    RESULT = PREFIX + "r:"  # string: a sealed result
    BATCH = PREFIX + "batch:"  # hash: the ids of missions that were enqueued together, by the first id of each call
    # Indexes of missions: sorted sets.
    # Those that wait for a worker, by when they came; an index for each priority, the first one of `normal`.
    QUEUED = PREFIX + "queued"
    QUEUED_HIGH = PREFIX + "queued_high"
    QUEUED_LOW = PREFIX + "queued_low"
    LEASES = PREFIX + "leases"  # the running ones, by the end of their lease in ms
    DUE = PREFIX + "due"  # those to be tried again that wait for no host, by when, in ms
    DUE_OF = PREFIX + "due:"  # those that wait for one host, by when, in ms
    DUE_HOSTS = PREFIX + "due_hosts"  # the hosts of these, by when it is their turn, in ms
    OPEN = PREFIX + "open"  # the unfinished ones, by when they were submitted, in ms
    EXPIRY = PREFIX + "expiry"  # the unfinished ones, by when they are too old, in ms
    DEAD = PREFIX + "dead"  # the dead letters, by when they died, in ms
    # Whose turn it is among those that wait.
    LINE = PREFIX + "line:"  # list: the missions of a priority and a submitter, in their order; some may be gone
    RING = PREFIX + "ring:"  # sorted set: the submitters of a priority, by when they had their turn
    TURNS = PREFIX + "turns"  # hash: how many claims took turns, and how far each priority has come
    # The ledger's counters and marks.
    SEQ = PREFIX + "seq"  # how many missions have been queued
    HEAD = PREFIX + "head"  # how far the queue has come, for workers of the last release
    LOOKED = PREFIX + "looked"  # how far they have looked for lost messages
    TOKEN = PREFIX + "token"  # the newest fencing token
    REAPER = PREFIX + "reaper"  # there while a reaper's turn lasts
    FINISHED = PREFIX + "finished"  # hash: how many ended, by state
    REFUSALS = PREFIX + "refusals"  # hash: how many admissions were refused, by reason
    KEYS_SEEN = PREFIX + "keys"  # hash: when a cryptographic key was first asked for
    DAMAGED = PREFIX + "damaged"  # hash: missions whose entry no release could have written, to what is wrong with it
    ASIDE = (
        PREFIX + "damaged:"
    )  # a key that was of another type, by the rest of its name, until a person has looked at it
    # Hosts and submitters.
    HOSTS = PREFIX + "hosts"  # hash: the breaker of each host in trouble
    QUOTA = PREFIX + "quota:"  # a submitter's theoretical arrival time (GCRA), in ms
    STORED = PREFIX + "stored:"  # hash: bytes of a submitter's sealed results, by when the last of them is gone, in ms
    # The audit: lists that logins can only append to.
    AUDIT = PREFIX + "audit:people"  # what people did
    # What workers say of the keys that they use: who takes over a worker must not reach the other chain.
    AUDIT_KEYS = PREFIX + "audit:workers"
    # Streams.
    QUARANTINE = PREFIX + "quarantine"  # size and hash of malformed messages
    OUTCOMES = PREFIX + "outcomes"  # how missions ended, the newest of them
    # Groups of readers that follow the outcomes.
    GROUP = PREFIX + "group:"  # hash: how far a group has come
    HELD = PREFIX + "held:"  # sorted set: the outcomes in its readers' hands, by when they go to another one, in ms


# Celery's and kombu's own names, and patterns of them.
QUEUE = "missions"
QUEUE_OF: Mapping[Priority, str] = {
    Priority.HIGH: QUEUE + "-high",
    Priority.NORMAL: QUEUE,
    Priority.LOW: QUEUE + "-low",
}
QUEUES = QUEUE + "*"  # one for each priority, and those of the guard's checks
CHECK_QUEUE = QUEUE + "-guard-"  # and an id, for each check: what is refused there is meant to be
CHECK_QUEUES = CHECK_QUEUE + "*"
QUEUE_BINDINGS = f"_kombu.binding*.{QUEUES}"
UNACKED = "unacked"
UNACKED_INDEX = "unacked_index"
UNACKED_MUTEX = "unacked_mutex"
TASK_RESULTS = "celery-task-meta-*"
EVENT_QUEUES = "celeryev.*"
CELERY_BINDINGS = "_kombu.binding*celery*"
# Channels. Their names hold the database's number, and one may subscribe only to a pattern that is granted word for word: so
# nobody leaves database 0.
EVENTS = "/0.celeryev/*"
REMOTE_CONTROL = "/0.celery.pidbox"  # nobody has a right to it
ENDED = PREFIX + "ended:"  # and a mission's id: that it has ended


INDEX_OF: Mapping[Priority, Key] = {
    Priority.HIGH: Key.QUEUED_HIGH,
    Priority.NORMAL: Key.QUEUED,
    Priority.LOW: Key.QUEUED_LOW,
}
# What has one place for each mission.
INDEXES = (*INDEX_OF.values(), Key.LEASES, Key.DUE, Key.OPEN, Key.EXPIRY, Key.DEAD)
# What a worker sets aside where it is of another type: all that stands in everybody's way. The audit's keys are a person's to mend.
TYPES: Mapping[str, str] = {
    **dict.fromkeys((*INDEXES, *(Key.RING + priority for priority in Priority), Key.DUE_HOSTS, UNACKED_INDEX), "zset"),
    **dict.fromkeys((Key.SEQ, Key.HEAD, Key.LOOKED, Key.TOKEN, Key.REAPER, UNACKED_MUTEX), "string"),
    **dict.fromkeys((Key.TURNS, Key.FINISHED, Key.REFUSALS, Key.KEYS_SEEN, Key.DAMAGED, Key.HOSTS, UNACKED), "hash"),
    # kombu has lists of its own for the priorities of its messages.
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
    """The pattern of a mission's result keys; without one, of all missions'."""
    return f"{Key.RESULT}{mission_id}:*"


def parse_result_key(key: str) -> tuple[str, int] | None:
    """Mission and token of a result's key; None where it is no such key."""
    match = _RESULT_KEY.fullmatch(key)
    return (match[1], int(match[2])) if match else None
