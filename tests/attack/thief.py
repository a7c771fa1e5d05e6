"""A stolen producer's login: it tries every command, with garbage, on every key."""

from __future__ import annotations

import hashlib
import random
import re
import uuid
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mission.ids import new_mission_id
from mission.model import Priority
from mission.store import names
from mission.store.messages import STATUS, SUBMIT, compose
from mission.store.names import Key

# A mission of the thief's own: a stolen login can falsify the entries of others (docs/redis-users.md).
_MINE = str(uuid.uuid4())
_KEYS = [str(key) + (_MINE if key.endswith(":") else "") for key in Key]
_KEYS += [
    *names.QUEUE_OF.values(),
    *(Key.RING + priority for priority in Priority),
    "missions-x",
    "unacked",
    "unacked_index",
    "_kombu.binding.missions",
    "celery-task-meta-x",
]
_INDEXES = (Key.EXPIRY, Key.LEASES, Key.DUE, Key.OPEN, Key.QUEUED, Key.DEAD)
_GARBAGE = (b"x", b"-1", b"1e308", b"\xff\xfe" * 50, b"{}" * 5000, b"\x00", _MINE.encode())
_WRITES = re.findall(
    r"\w+",
    "set setex append getset del unlink expire persist rename lpush rpush ltrim lset lpop sadd srem hset hdel hincrby "
    "zadd zrem zpopmin incr xadd xtrim restore copy sort pfadd bitop setrange",
)
_FUNCTIONS = re.findall(r"\w+", "admit claim next commit reap release forget follow discard host hosts replay reseal")
_ENDLESS = "redis.call('SET', KEYS[1], 'x') while true do end"
_LIBRARY = f"#!lua name=decoder\nredis.register_function('decoder_admit', function() {_ENDLESS} end)"
_SERVER = """
function flush|flushall|config set maxmemory 1|acl setuser producer +@all|client pause 100000|client kill type normal|shutdown nosave
debug sleep 30|monitor|keys *
"""
# In this order, at the start of each round of commands: a script, server commands, and values of the wrong type behind
# an index and for the queue.
_FIRST: list[Sequence[object]] = [
    ["function", "load", "replace", _LIBRARY],
    *([*line.split()] for line in re.split(r"[|\n]", _SERVER.strip())),
    ["set", names.entry_key(_MINE), "x"],
    *(["zadd", key, "0", _MINE] for key in _INDEXES),
    *(["set", key, "x"] for key in (Key.HOSTS, Key.SEQ, Key.HEAD, names.QUEUE)),
    ["eval", _ENDLESS, 1, Key.QUOTA + "x"],
    ["script", "load", _ENDLESS],
    ["evalsha", hashlib.sha1(_ENDLESS.encode()).hexdigest(), 1, Key.QUOTA + "x"],
]
_ROUND = 100


class Thief:
    """Sends the next command with each call of `act`."""

    def __init__(self, redis_url: str, dice: random.Random) -> None:
        self._client: Any = redis.Redis.from_url(redis_url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._dice = dice
        self._turn = -1

    def act(self) -> None:
        """Raises: RedisError, if the server does not take it."""
        self._turn += 1
        self._client.execute_command(*self._next())

    def _next(self) -> Sequence[object]:
        step = self._turn % _ROUND
        if step < len(_FIRST):
            return _FIRST[step]
        if step == len(_FIRST):
            return ["fcall", "decoder_admit", 1, Key.QUEUED, *[b"x"] * 100_000]
        garbage = self._dice.choices(_GARBAGE, k=self._dice.randint(0, 9))
        match self._turn % 3:
            case 0:
                # A command that a login for Celery may also send: a request that must be answered and refused.
                return [
                    "lpush",
                    names.QUEUE,
                    *garbage,
                    b"x",
                    compose(self._dice.choice((SUBMIT, STATUS)), new_mission_id(), [7], {}),
                ]
            case 1:
                return ["fcall", f"decoder_{self._dice.choice(_FUNCTIONS)}", 1, self._dice.choice(_KEYS), *garbage]
        return [self._dice.choice(_WRITES), self._dice.choice(_KEYS), *garbage[:4]]
