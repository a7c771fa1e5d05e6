"""The logins on the Redis server: one for each kind of user, each with only the rights that its work needs.

For Redis 7.0 and newer, and Valkey. Each right is a command on a pattern of keys, in its own selector (a rule in parentheses). So
a login that may HSET an entry may not HSET an index. A function runs with its caller's rights, so a login that may call one needs
a right for each command and key that the function uses. Only the deployer's login loads functions; no login loads scripts.

`client|setinfo` is not granted, though clients send it: 7.0 does not know it and refuses a file that names it. `+fcall|decoder_admit`
names a function by the rule for a command's first argument. Redis documents that rule as deprecated, without a successor:
`tests/security/test_acl.py` fails if a server does not enforce it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mission.errors import SettingsError
from mission.store import names
from mission.store.library import function_name
from mission.store.names import INDEX_OF, Key

# Key patterns, with the commands for them, separated by spaces. A prefix of keys (it ends with a colon) matches all of them.
Rights = Mapping[str, str]


def _union(*several: Mapping[Any, str]) -> Rights:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for rights in several:
        for key, commands in rights.items():
            found[key] += commands.split()
    return {key: " ".join(dict.fromkeys(commands)) for key, commands in found.items()}


# The commands of `common.lua`, by its functions.
_REMEMBER = {Key.ENTRY: "hget hset"}
_LINE_UP = {Key.LINE: "rpush", Key.TURNS: "hget", Key.RING: "zadd"}
_ENQUEUE = _union(dict.fromkeys(INDEX_OF.values(), "zadd"), _LINE_UP, {Key.SEQ: "incr", Key.ENTRY: "hmget hset"})
_PUT_ASIDE = _union(dict.fromkeys(names.INDEXES, "zrem"), {Key.DAMAGED: "hlen hset"})
_READ = _union(_PUT_ASIDE, {Key.ENTRY: "hmget"})
_ENQUEUE_AGAIN = _union(_ENQUEUE, {Key.ENTRY: "hdel"})
_DETACH = _union(_READ, {Key.DUE_OF: "zrem", Key.ENTRY: "hdel"})
_RETRY_AT = _union(
    *(_DETACH, dict.fromkeys((Key.DUE, Key.DUE_OF, Key.DUE_HOSTS), "zadd")),
    {Key.ENTRY: "hset", Key.DUE: "del", Key.DUE_OF: "del", Key.HOSTS: "hget"},
)
_FINISH = _union(
    *(_DETACH, _REMEMBER, {Key.ENTRY: "hdel expire hstrlen hget", Key.FINISHED: "hincrby", Key.OUTCOMES: "xadd"}),
    {Key.DEAD: "zadd"},
)
_CLAIM = _union(_FINISH, _RETRY_AT, {Key.ENTRY: "hmget hincrby hstrlen", Key.LEASES: "zadd", Key.TOKEN: "incr set"})

# The commands of each function of `lua/`, by key.
FUNCTIONS: dict[str, Rights] = {
    "admit": _union(
        *(dict.fromkeys((Key.OPEN, Key.EXPIRY, *INDEX_OF.values()), "zcard zadd"), _LINE_UP),
        {Key.SEQ: "incrby", Key.QUOTA: "get set", Key.ENTRY: "hmget hset", Key.REFUSALS: "hincrby"},
        {Key.STORED: "hmget hgetall", names.QUEUES: "lpush", Key.BATCH: "hset expire"},
    ),
    # The declared list: `_appends`, `_trims`.
    "audit_append": {},
    "audit_trim": {},
    "cancel": _union(_FINISH, {Key.ENTRY: "type hget"}),
    "claim": _union(_CLAIM, dict.fromkeys(INDEX_OF.values(), "zscore"), {Key.HEAD: "get set"}),
    "commit": _union(
        *(_FINISH, {Key.ENTRY: "hmget", Key.RESULT: "del"}),
        {Key.STORED: "hmget hgetall hset hdel expire del"},
    ),
    "discard": {Key.ENTRY: "type hmget hdel", Key.DEAD: "zrem"},
    "forget": _union(_DETACH, {Key.ENTRY: "del", Key.ASIDE: "del", Key.OUTCOMES: "xrange xdel"}),
    "due": _union(
        *(_ENQUEUE_AGAIN, _READ, dict.fromkeys((Key.DUE, Key.DUE_OF), "zrangebyscore zrange zrem del")),
        {Key.DUE: "exists", Key.DUE_HOSTS: "zadd zcount zrangebyscore zrem", Key.HOSTS: "hget"},
    ),
    "follow": {
        Key.OUTCOMES: "xinfo|stream xrange",
        Key.GROUP: "hmget hset del ttl expire",
        Key.HELD: "zrangebyscore zadd zrem del ttl expire",
    },
    "host": {Key.HOSTS: "hget hset hdel hlen hrandfield", Key.DUE_HOSTS: "zadd"},
    "hosts": {Key.HOSTS: "hgetall hset hdel", Key.DUE_HOSTS: "zadd"},
    "library": {},
    "mend": _union(
        *(dict.fromkeys(names.TYPES, "type rename"), {Key.ASIDE: "rename expire"}),
        *(dict.fromkeys((Key.FINISHED, Key.REFUSALS), "hlen hgetall hdel"), {Key.REAPER: "pttl del"}),
        dict.fromkeys((*INDEX_OF.values(), Key.RING), "zrevrangebyscore zrangebyscore zadd"),
        {Key.SEQ: "get set incr", Key.TURNS: "hget hset hlen hgetall hdel", Key.OUTCOMES: "xinfo|stream"},
        dict.fromkeys((Key.HEAD, Key.LOOKED, Key.TOKEN), "get del"),
        dict.fromkeys((Key.LEASES, Key.DUE, Key.DUE_OF, Key.DUE_HOSTS), "zrangebyscore zadd"),
    ),
    "next": _union(
        _CLAIM,
        dict.fromkeys(INDEX_OF.values(), "zcard zrange zrandmember"),
        {Key.TURNS: "hincrby hmget hset", Key.RING: "zcard zrange zadd zrem", Key.LINE: "lpop exists unlink"},
        {Key.ENTRY: "hget"},
    ),
    "reap": _union(
        *(_FINISH, _ENQUEUE_AGAIN, {Key.ENTRY: "hincrby", Key.REAPER: "set", Key.HEAD: "get", Key.LOOKED: "get set"}),
        dict.fromkeys((Key.EXPIRY, Key.LEASES, *INDEX_OF.values()), "zrangebyscore"),
        *(dict.fromkeys(INDEX_OF.values(), "zcard"), {Key.RING: "zrange zrem", Key.LINE: "unlink"}),
        {Key.DEAD: "zcount zremrangebyrank", Key.LEASES: "zscore", Key.EXPIRY: "zadd", Key.OPEN: "zrandmember"},
        {Key.OUTCOMES: "xtrim"},
    ),
    "reindex": _union(
        {Key.ENTRY: "type hmget rename persist ttl expire", Key.ASIDE: "rename expire", Key.SEQ: "incr"},
        *(dict.fromkeys(names.INDEXES, "zrem zscore zadd"), {Key.DAMAGED: "hdel"}, _LINE_UP),
        *(dict.fromkeys((Key.DUE, Key.DUE_OF), "type del zscore zadd zrange"), {Key.DUE_HOSTS: "zadd"}),
    ),
    "release": _union(_FINISH, _RETRY_AT, {Key.ENTRY: "hmget hincrby"}),
    "replay": _union(
        *(_RETRY_AT, _REMEMBER, {Key.ENTRY: "type hmget persist hdel"}),
        {Key.DEAD: "zrem", Key.OPEN: "zadd", Key.EXPIRY: "zadd"},
    ),
    "reseal": {Key.RESULT: "get set"},
    "take": dict.fromkeys(names.QUEUE_OF.values(), "lindex rpop"),
    "stats": _union(
        dict.fromkeys((*INDEX_OF.values(), Key.LEASES, Key.DEAD, Key.OPEN), "zcard"),
        {Key.OPEN: "zcount", Key.FINISHED: "hmget"},
    ),
}


def _calls(*functions: str, key: str = Key.QUEUED) -> Rights:
    """The right to call functions with this declared key, and the rights for their commands."""
    rights: list[Rights] = [FUNCTIONS[name] for name in functions]
    return _union(*rights, {key: " ".join(f"fcall|{function_name(name)}" for name in functions)})


def _appends(chain: Key) -> Rights:
    """The rights to append to a chain of the audit. None of them deletes, overwrites or expires, so the list only grows."""
    return _union(_calls("audit_append", key=chain), {chain: "rpush lindex llen lrange"})


def _trims(chain: Key) -> Rights:
    """The rights to remove its oldest entries and to record the removal."""
    return _union(_appends(chain), _calls("audit_trim", key=chain), {chain: "ltrim"})


# The commands that the code sends besides the functions.
_ANYBODY = "ping time acl|whoami"
_BATCHES = "multi exec discard wait"
# Mission states: counts of all missions, and the status of missions whose id, or whose batch's id, is known.
_STATUS = _union(_calls("stats"), {Key.ENTRY: "hmget", Key.BATCH: "hscan"})
_STATS = {Key.REFUSALS: "hgetall", names.QUEUES: "llen"}
# The list of missions.
_LIST = dict.fromkeys((Key.OPEN, Key.DEAD), "zrevrangebyscore")
# Outcomes, as missions end. Clients only read the stream; a group's position has its own keys. XREADGROUP is not an option: even with
# full memory, Redis lets it write any number of names of groups and consumers.
_OUTCOMES = _union(_calls("follow"), {Key.OUTCOMES: "xread"})
# kombu, to publish: LPUSH to the queue, after it has written and read the queue's binding.
_PUBLISH = {names.QUEUES: "lpush", names.QUEUE_BINDINGS: "sadd smembers"}
_READ_AUDIT = dict.fromkeys((Key.AUDIT, Key.AUDIT_KEYS), "lindex llen lrange")


@dataclass(frozen=True, slots=True)
class Login:
    """The rights of one kind of user: commands without a key, commands on keys, channels. Separated by spaces."""

    commands: str
    rights: Rights = field(default_factory=dict)
    channels: str = ""

    def rules(self) -> str:
        """The rules for `ACL SETUSER`, with one selector for all commands on the same keys."""
        patterns: defaultdict[str, set[str]] = defaultdict(set)
        for key, commands in self.rights.items():
            for command in commands.split():
                # SET … GET would read the key.
                mode = "%W~" if command == "set" else "~"
                patterns[command].add(f"{mode}{key}*" if key.endswith(":") else mode + key)
        selectors: defaultdict[str, list[str]] = defaultdict(list)
        for command in sorted(patterns):
            selectors[" ".join(sorted(patterns[command]))].append(f"+{command}")
        words = [f"&{channel}" for channel in self.channels.split()]
        words += [f"+{command}" for command in self.commands.split()]
        words += [f"({' '.join([keys, *commands])})" for keys, commands in sorted(selectors.items())]
        return " ".join(words)


LOGINS: dict[str, Login] = {
    # Apps that enqueue. Also older Celery apps, from before the `celery` login, which wait for the results of their tasks.
    "producer": Login(
        f"{_ANYBODY} {_BATCHES} subscribe unsubscribe",
        _union(
            *(_calls("admit"), _STATS, _STATUS, _OUTCOMES, _PUBLISH),
            {Key.REFUSALS: "hincrby", names.TASK_RESULTS: "get mget del"},
        ),
        f"{names.TASK_RESULTS} {names.ENDED}*",
    ),
    # Apps that only use Celery: they put `decoder.submit` and `decoder.status` into a queue and get the results, with no right to the
    # ledger. Python clients first read the queues' lengths and bindings; Node clients send INFO.
    "celery": Login(
        "ping info multi exec subscribe unsubscribe",
        {
            **dict.fromkeys(names.QUEUE_OF.values(), "lpush"),
            names.QUEUES: "llen",
            names.QUEUE_BINDINGS: "sadd smembers",
            names.TASK_RESULTS: "get mget del",
        },
        names.TASK_RESULTS,
    ),
    # Workers: the whole ledger; only their own chain of the audit; results they can only write.
    "worker": Login(
        f"{_ANYBODY} {_BATCHES} unwatch publish info",
        _union(
            *(
                _calls(
                    *("admit", "claim", "next", "commit", "release", "reap", "due", "host", "hosts", "library"),
                    *("mend", "take"),
                ),
                _appends(Key.AUDIT_KEYS),
            ),
            *(_STATS, _STATUS, _PUBLISH),
            {
                Key.REFUSALS: "hincrby",
                Key.KEYS_SEEN: "hmget hset",
                Key.DAMAGED: "hlen",
                Key.RESULT: "set",
                Key.QUARANTINE: "xadd",
            },
            # The size of the audit, but not its content.
            dict.fromkeys((Key.AUDIT, Key.AUDIT_KEYS, Key.OUTCOMES), "memory|usage"),
            # kombu, to take messages and to keep those in flight; Celery's results; the guard's self-check.
            {names.QUEUES: "brpop rpush", names.CHECK_QUEUES: "expire"},
            {
                names.UNACKED: "hget hset hdel watch",
                names.UNACKED_INDEX: "zadd zrem zrange",
                names.UNACKED_MUTEX: "set",
            },
            {names.TASK_RESULTS: "get setex"},
        ),
        f"{names.TASK_RESULTS} {names.EVENTS} {names.ENDED}*",
    ),
    # `mission reveal` and exports: list and read results, and how their missions ended. Each read is audited first.
    "reader": Login(
        f"{_ANYBODY} scan",
        _union({Key.RESULT: "get"}, _STATUS, _OUTCOMES, _LIST, _appends(Key.AUDIT), _READ_AUDIT),
    ),
    # Dead letters, cancellation, erasure, repair, the audit. Operators can only delete results.
    "operator": Login(
        f"{_ANYBODY} {_BATCHES} scan info",
        _union(
            *(
                _calls("cancel", "discard", "forget", "replay", "mend", "reindex"),
                _STATS,
                _STATUS,
                _OUTCOMES,
                _LIST,
                _appends(Key.AUDIT),
                _READ_AUDIT,
            ),
            dict.fromkeys(names.INDEXES, "zscan"),
            {
                Key.DAMAGED: "hscan hlen",
                Key.DEAD: "zrangebyscore",
                Key.RESULT: "del",
                Key.QUARANTINE: "xrange xrevrange",
            },
        ),
    ),
    # `decoder keys rewrap`, during a key change: reads results and re-seals them.
    "rewrapper": Login(
        f"{_ANYBODY} scan wait",
        _union(_STATUS, _calls("reseal", key=Key.RESULT), {Key.RESULT: "mget"}, _appends(Key.AUDIT), _READ_AUDIT),
    ),
    # Flower: the events, and the queues' lengths; it takes no messages or results, and publishes nothing.
    "flower": Login(
        f"{_ANYBODY} multi exec psubscribe punsubscribe",
        _union(
            _STATUS,
            {
                names.EVENT_QUEUES: "llen del exists",
                names.CELERY_BINDINGS: "sadd srem smembers",
                names.QUEUES: "llen",
            },
        ),
        names.EVENTS,
    ),
    # Probes, exporters, autoscalers.
    "metrics": Login(f"{_ANYBODY} info", _union(_STATS, _STATUS)),
    # `decoder audit trim` and `mend`: the only login that removes from the audit; it does nothing else.
    "auditor": Login(_ANYBODY, _union(_STATUS, _trims(Key.AUDIT), _trims(Key.AUDIT_KEYS))),
    # `decoder migrate`: loads the functions, which run with their caller's rights.
    "deployer": Login(f"{_ANYBODY} function|load function|list", _STATUS),
}


def logins_that_call(script: str) -> list[str]:
    """The logins that may call this function."""
    call = f"fcall|{function_name(script)}"
    return [name for name, login in LOGINS.items() if any(call in words.split() for words in login.rights.values())]


def acl_lines(passwords: Mapping[str, str]) -> list[str]:
    """The lines of an ACL file. The default login is off, and so is each login without a password here.

    Args:
        passwords: the password of each login; the lines only contain their SHA-256.

    Raises:
        SettingsError: a login is unknown, or a password is empty.
    """
    return ["user default reset off", *login_lines(passwords)]


def login_lines(passwords: Mapping[str, str]) -> list[str]:
    """The same lines without the default login; a server's configuration may also contain them."""
    for name, password in passwords.items():
        if name not in LOGINS or not password:
            raise SettingsError(f"a login is one of {', '.join(LOGINS)}, and needs a password")
    lines = []
    for name, login in LOGINS.items():
        secret = passwords.get(name)
        entry = f"on #{hashlib.sha256(secret.encode()).hexdigest()}" if secret else "off"
        lines.append(f"user {name} reset {entry} {login.rules()}")
    return lines
