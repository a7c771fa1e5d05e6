"""Checks of the Redis server, and of this login's rights on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import redis
from redis.exceptions import NoPermissionError

from mission.errors import LedgerUnavailable
from mission.ids import new_mission_id
from mission.store import library
from mission.store.connection import connect, outages
from mission.store.library import OLDEST, too_old
from mission.store.names import TYPES, Key, result_key
from mission.store.scripts import as_text
from worker.doctor.finding import Finding, Level, Verdict
from worker.settings import WorkerSettings

MIN_HEADROOM = 0.2
MAX_CLOCK_OFFSET_SECONDS = 2.0
MAX_ROUND_TRIP_SECONDS = 0.05
# With less, a mission with a long URL takes twice the memory.
MIN_LISTPACK_BYTES = 1024
_PINGS = 5
NOT_ITS = "this login may not check it"
# The logins that read results; no other needs to.
_READERS = ("reader", "rewrapper")

Info = Mapping[str, Any]


def findings(settings: WorkerSettings, seat: str) -> Iterator[Finding]:
    """Yield a finding for each check, depending on the login's role."""
    with connect(settings) as client:
        try:
            with outages():
                reached, info = _reached(client), _info(client)
        except LedgerUnavailable as error:
            yield Finding("redis", Level.FAIL, str(error))
            return
        yield Finding("redis", *reached)
        unseen = _unseen(seat, "this login may not use INFO (+info)")
        yield from (Finding(_name(check), *(check(info, settings) if info else unseen)) for check in _SERVER)
        yield from (Finding(_name(check), *_answered(check, client, seat)) for check in _LOGIN)


def _unseen(seat: str, why: str) -> Verdict:
    """The verdict on a check that the login may not do; for a worker's login this is a warning."""
    return (Level.WARN, f"cannot be checked: {why}") if seat == "worker" else (Level.SKIP, NOT_ITS)


def _reached(client: redis.Redis) -> Verdict:
    took = []
    for _ in range(_PINGS):
        began = time.monotonic()
        client.ping()
        took.append(time.monotonic() - began)
    shown = f"answers in {min(took) * 1000:.1f} ms"
    return (Level.WARN, f"{shown}: too far away") if min(took) > MAX_ROUND_TRIP_SECONDS else (Level.OK, shown)


def _info(client: redis.Redis) -> Info | None:
    try:
        return cast("Info", client.info())
    except redis.ResponseError:
        return None


def _version(info: Info, _settings: WorkerSettings) -> Verdict:
    version = str(info["redis_version"])
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    if too_old(version):
        return Level.FAIL, f"{name}; use Redis {OLDEST} or newer, or Valkey"
    return Level.OK, name


def _role(info: Info, _settings: WorkerSettings) -> Verdict:
    if info["role"] != "master":
        return Level.FAIL, "this is a replica and cannot be written: connect to the primary, or through its Sentinels"
    return Level.OK, "the primary"


def _eviction(info: Info, _settings: WorkerSettings) -> Verdict:
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        return Level.FAIL, f"maxmemory-policy is {policy}: a full Redis would delete missions; set noeviction"
    return Level.OK, "maxmemory-policy is noeviction"


def _memory(info: Info, _settings: WorkerSettings) -> Verdict:
    used, limit = info["used_memory"], info["maxmemory"]
    shown = f"{used / 2**20:.0f} MiB used"
    if not limit:
        return Level.WARN, f"{shown}, maxmemory is not set: a long queue ends with the kernel killing Redis"
    left = 1 - used / limit
    shown += f" of {limit / 2**20:.0f} MiB"
    if left < MIN_HEADROOM:
        return Level.WARN, f"{shown}: less than {MIN_HEADROOM:.0%} left, admissions will soon be refused"
    return Level.OK, shown


def _aof(info: Info, _settings: WorkerSettings) -> Verdict:
    if not info["aof_enabled"]:
        return Level.FAIL, "the AOF is off: a crash of Redis loses missions; set appendonly yes"
    if info.get("aof_last_write_status") != "ok":
        return Level.FAIL, "the AOF could not be written: is Redis' disk full?"
    return Level.OK, "the AOF is on"


def _replicas(info: Info, settings: WorkerSettings) -> Verdict:
    replicas = [facts for name, facts in info.items() if name.startswith("slave") and isinstance(facts, Mapping)]
    online = sum(facts.get("state") == "online" for facts in replicas)
    shown = f"{online} connected, DECODER_REDIS_REPLICAS={settings.redis_replicas}"
    if online < settings.redis_replicas:
        return Level.FAIL, f"{shown}: no mission is admitted"
    return Level.OK, shown if settings.redis_replicas else f"{shown}: a failover may lose the newest missions"


# What this login may see and do.
def _answered(check: Callable[[redis.Redis, str], Verdict], client: redis.Redis, seat: str) -> Verdict:
    try:
        with outages():
            return check(client, seat)
    except LedgerUnavailable as error:
        if isinstance(error.__context__, NoPermissionError) and seat != "worker":
            return _unseen(seat, str(error))
        return Level.WARN, str(error)


def _option(client: redis.Redis, name: str) -> str | None:
    """The server's option; None where the login may not ask for it."""
    try:
        return str(cast("dict[str, str]", client.config_get(name)).get(name, "unknown"))
    except redis.ResponseError:
        return None


def _listpack(client: redis.Redis, _seat: str) -> Verdict:
    size = _option(client, "hash-max-listpack-value")
    if size is None:
        return Level.SKIP, NOT_ITS
    if not size.isdecimal() or int(size) < MIN_LISTPACK_BYTES:
        return (
            Level.WARN,
            f"hash-max-listpack-value is {size}: a mission with a long URL takes twice the memory; set {MIN_LISTPACK_BYTES}",
        )
    return Level.OK, f"hash-max-listpack-value is {size}"


def _fsync(client: redis.Redis, seat: str) -> Verdict:
    policy = _option(client, "appendfsync")
    if policy is None:
        return _unseen(seat, "this login may not use CONFIG GET; `appendfsync always` loses nothing")
    if policy != "always":
        lost = "up to 1 s" if policy == "everysec" else "much"
        return Level.WARN, f"appendfsync is {policy}: a crash of Redis may lose {lost} of admissions; set always"
    return Level.OK, "appendfsync is always"


def _login(client: redis.Redis, _seat: str) -> Verdict:
    try:
        name = str(client.acl_whoami())
    except NoPermissionError:
        return Level.OK, "a login with few rights"
    if name == "default":
        return Level.WARN, "this is the default login, which may do everything: give workers their own login"
    return Level.OK, f"this is {name}"


def _functions(client: redis.Redis, _seat: str) -> Verdict:
    found, needed = library.number(client), library.LIBRARY
    if found is not None and found >= needed:
        return Level.OK, f"library {found}" if found == needed else f"library {found}, of a newer release"
    what = "Redis lacks the decoder's functions" if found is None else f"library {found} is older than {needed}"
    try:
        library.stored(client)
    except NoPermissionError:
        return Level.FAIL, f"{what}: {library.REMEDY}"
    return Level.OK, f"{what}: a worker with this login loads them when it starts"


def _results(client: redis.Redis, seat: str) -> Verdict:
    try:
        client.get(result_key(new_mission_id(), 0))
    except NoPermissionError:
        if seat in _READERS:
            return Level.FAIL, "this login may not read sealed results, although that is its role (ACL)"
        return Level.OK, "this login may not read sealed results back"
    if seat in _READERS:
        return Level.OK, "this login may read sealed results"
    return Level.WARN, "this login may read sealed results, which a worker does not need (ACL)"


def _outcomes(client: redis.Redis, _seat: str) -> Verdict:
    """Without this right missions still end, but no outcome is published; only this check shows it."""
    client.xtrim(Key.OUTCOMES, minid="0-0")  # removes nothing; needs the same right as a write
    return Level.OK, "outcomes of missions are published"


def _clock(client: redis.Redis, _seat: str) -> Verdict:
    before = time.time()
    seconds, micros = client.time()
    offset = seconds + micros / 1e6 - (before + time.time()) / 2
    if abs(offset) > MAX_CLOCK_OFFSET_SECONDS:
        return Level.WARN, f"Redis' clock is {offset:+.1f} s from this machine's: logs will not line up"
    return Level.OK, f"Redis' clock is {offset:+.3f} s from this machine's"


def _damage(client: redis.Redis, _seat: str) -> Verdict:
    wrong = [
        f"{key!r} is a {found}" for key, type_ in TYPES.items() if (found := _type(client, key)) not in (type_, "none")
    ]
    if missions := client.hlen(Key.DAMAGED):
        wrong.append(f"{missions} missions have an entry that no release writes")
    if wrong:
        return Level.FAIL, f"{'; '.join(wrong)}: they were overwritten; `decoder doctor --repair` repairs them"
    return Level.OK, "no key of a wrong type, no damaged mission entry"


def _type(client: redis.Redis, key: str) -> str:
    return as_text(client.type(key))


# In the order of the output.
_SERVER = (_version, _role, _eviction, _memory, _aof, _replicas)
_LOGIN = (_fsync, _listpack, _login, _functions, _results, _outcomes, _clock, _damage)


def _name(check: Callable[..., Verdict]) -> str:
    """Derive a check's name from its function."""
    return check.__name__[1:].replace("_", "-")
