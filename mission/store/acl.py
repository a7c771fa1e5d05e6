"""Who may do what on the Redis server: a login for each kind of user, each with the least rights that do its work.

For Redis 7.0 and newer, and Valkey. `~` lets a login read and write a key, `%R~` only read, `%W~` only write; a rule in
parentheses is a selector, whose commands go with its keys alone. Scripts run with their caller's rights, so a login that runs
one holds a right for each command and key inside of it. `client|setinfo` is not granted, though clients send it: 7.0 does not
know it and refuses a file that names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mission.errors import SettingsError
from mission.store import names
from mission.store.names import Key

# What the parts of the code send, also from inside of their scripts.
_ANYBODY = "ping time acl|whoami"
_SCRIPTS = "evalsha script|load multi exec discard wait"
_ADMIT = "get set hset hmget hincrby incr zadd zcard"
_STATS = "zcard zrange hmget hgetall llen"
_WORK = "hget hdel hlen hrandfield expire zrem zrangebyscore zremrangebyscore zscore"
_CONSUME = "brpop rpop lpush rpush sadd smembers watch unwatch publish setex mget"
_DEAD_LETTERS = "hget hset hdel del persist zadd zrem zrangebyscore"


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands, and what they may touch. Commands and channels are separated by spaces."""

    commands: str
    keys: Sequence[str] = ()
    channels: str = ""

    def __str__(self) -> str:
        channels = (f"&{channel}" for channel in self.channels.split())
        commands = (f"+{command}" for command in dict.fromkeys(self.commands.split()))
        return " ".join([*self.keys, *channels, *commands])


def _on(mode: str, *keys: str) -> list[str]:
    """The rule for keys, where a beginning of keys stands for all of them."""
    return [f"{mode}{key}*" if key.endswith(":") else mode + key for key in keys]


# Appending to the audit, and reading it and what workers say of their keys. Who may do more with a key of it than this could
# delete it.
_AUDIT = (
    Grant("evalsha xadd xrange xrevrange exists xinfo|stream", _on("~", Key.AUDIT)),
    Grant("xrange xrevrange exists xinfo|stream", _on("%R~", Key.AUDIT_KEYS)),
)

LOGINS: dict[str, tuple[Grant, ...]] = {
    # Apps that enqueue; also those that only speak Celery, and wait for the results of its tasks.
    "producer": (
        Grant(
            f"{_ANYBODY} {_SCRIPTS} {_ADMIT} {_STATS} lpush sadd smembers subscribe unsubscribe",
            [
                *_on("~", Key.ENTRY, Key.QUEUED, Key.OPEN, Key.SEQ, Key.QUOTA, Key.REFUSALS, Key.FINISHED),
                *_on("%R~", Key.LEASES, Key.DUE, Key.DEAD),
                *_on("%W~", Key.EXPIRY),
                *_on("~", names.QUEUES, names.QUEUE_BINDINGS),
            ],
            names.TASK_RESULTS,
        ),
        Grant("get mget del", _on("~", names.TASK_RESULTS)),
    ),
    # Workers: all of the ledger; of the audit only the chain of their keys; results they can only write.
    "worker": (
        Grant(
            f"{_ANYBODY} {_SCRIPTS} {_ADMIT} {_STATS} {_WORK} {_CONSUME} info",
            [
                *_on("~", Key.ENTRY, Key.QUEUED, Key.LEASES, Key.HEAD, Key.LOOKED, Key.TOKEN, Key.OPEN, Key.EXPIRY),
                *_on("~", Key.DUE, Key.DEAD, Key.FINISHED, Key.SEQ, Key.REAPER, Key.HOSTS, Key.PROBE, Key.QUOTA),
                *_on("~", Key.REFUSALS, Key.KEYS_SEEN),
                *_on("~", names.QUEUES, names.UNACKED, names.QUEUE_BINDINGS, names.TASK_RESULTS),
            ],
            f"{names.TASK_RESULTS} {names.EVENTS}",
        ),
        Grant("del", _on("~", Key.PROBE, names.UNACKED_MUTEX)),
        Grant("set", _on("%W~", Key.RESULT)),
        Grant("xadd", _on("%W~", Key.QUARANTINE)),
        Grant("evalsha xadd xrevrange", _on("~", Key.AUDIT_KEYS)),
    ),
    # `mission reveal` and exports: which results there are, and how their missions ended. Each read goes to the audit first.
    "reader": (
        Grant(f"{_ANYBODY} script|load scan"),
        Grant("get", _on("%R~", Key.RESULT)),
        Grant("hmget", _on("%R~", Key.ENTRY)),
        *_AUDIT,
    ),
    # Dead letters, erasure, the audit. Results they can only delete.
    "operator": (
        Grant(
            f"{_ANYBODY} {_SCRIPTS} {_STATS} {_DEAD_LETTERS} scan info",
            [
                *_on("~", Key.ENTRY, Key.QUEUED, Key.LEASES, Key.DUE, Key.OPEN, Key.EXPIRY, Key.DEAD),
                *_on("%R~", Key.FINISHED, Key.REFUSALS, names.QUEUES),
            ],
        ),
        Grant("del", _on("%W~", Key.RESULT)),
        Grant("xrange xrevrange", _on("%R~", Key.QUARANTINE)),
        *_AUDIT,
    ),
    # `decoder keys rewrap`, while keys change: reads results and writes them anew.
    "rewrapper": (
        Grant(f"{_ANYBODY} script|load scan wait"),
        Grant("evalsha get mget set", _on("~", Key.RESULT)),
        *_AUDIT,
    ),
    # Flower: the events, and how long queues are; it takes no message and no result. It asks all workers for a heartbeat, by
    # the remote control that ours do not listen to.
    "flower": (
        Grant(
            f"{_ANYBODY} evalsha script|load script|exists multi exec "
            "llen del exists sadd srem smembers zadd zrangebyscore zrem publish psubscribe punsubscribe",
            _on("~", names.EVENT_QUEUES, names.CELERY_BINDINGS, names.BINDING_DEADLINES),
            f"{names.EVENTS} {names.REMOTE_CONTROL}",
        ),
        Grant("llen", _on("%R~", names.QUEUES)),
    ),
    # Probes, exporters, autoscalers.
    "metrics": (
        Grant(
            f"{_ANYBODY} {_STATS} info",
            _on("%R~", Key.QUEUED, Key.LEASES, Key.DUE, Key.OPEN, Key.DEAD, Key.FINISHED, Key.REFUSALS, names.QUEUES),
        ),
    ),
}


def acl_lines(passwords: Mapping[str, str]) -> list[str]:
    """An ACL file: the default login is off, and so is each that has no password here.

    Args:
        passwords: login to its password; the lines hold only their SHA-256.

    Raises:
        SettingsError: there is no such login, or a password is empty.
    """
    return ["user default reset off", *login_lines(passwords)]


def login_lines(passwords: Mapping[str, str]) -> list[str]:
    """The same without the default login; they may also stand in a server's configuration."""
    for name, password in passwords.items():
        if name not in LOGINS or not password:
            raise SettingsError(f"a login is one of {', '.join(LOGINS)}, and has a password")
    lines = []
    for name, (rights, *selectors) in LOGINS.items():
        secret = passwords.get(name)
        entry = f"on #{hashlib.sha256(secret.encode()).hexdigest()}" if secret else "off"
        lines.append(" ".join([f"user {name} reset {entry} {rights}", *(f"({selector})" for selector in selectors)]))
    return lines
