"""What a production needs, looked at from where a worker stands: one finding for each check.

Needs no more rights than a worker's login has, and says so where that does not suffice to see something.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.exceptions import NoPermissionError

from mission.errors import DecoderError, LedgerUnavailable, SettingsError
from mission.ids import new_mission_id
from mission.seal.url_keys import UrlKeyring
from mission.store import library
from mission.store.connection import connect, outages
from mission.store.library import OLDEST, too_old
from mission.store.names import TYPES, Key, result_key
from mission.store.scripts import as_text
from mission.units import format_duration, format_size
from worker.extract.detectors import MARKER, NO_ENGINE
from worker.keys.recipients import Recipients
from worker.settings import WorkerSettings
from worker.work import memory
from worker.work.memory import MIB

MIN_HEADROOM = 0.2
MAX_CLOCK_OFFSET_SECONDS = 2.0
MAX_ROUND_TRIP_SECONDS = 0.05
_PINGS = 5
_LONG_LEASE = 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Info = Mapping[str, Any]


class Level(StrEnum):
    """How a check came out. `FAIL` is a must that is not met."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check: its name, how it came out, and what is or what to do about it, in one line."""

    check: str
    level: Level
    detail: str


Verdict = tuple[Level, str]


def examine(settings: WorkerSettings) -> Iterator[Finding]:
    """Every check, the settings' first. Redis' are left out where it does not answer."""
    yield from (Finding(_name(check), *check(settings)) for check in _LOCAL)
    with connect(settings) as client:
        try:
            with outages():
                reached, info = _reached(client), _info(client)
        except LedgerUnavailable as error:
            yield Finding("redis", Level.FAIL, str(error))
            return
        yield Finding("redis", *reached)
        unseen = Level.WARN, "cannot be seen: this login may not use INFO (+info)"
        yield from (Finding(_name(check), *(check(info, settings) if info else unseen)) for check in _SERVER)
        yield from (Finding(_name(check), *_answered(check, client)) for check in _LOGIN)


# What the settings say.
def _variables(_settings: WorkerSettings) -> Verdict:
    if misspelt := WorkerSettings.misspelt():
        return Level.WARN, "; ".join(misspelt)
    return Level.OK, "none of DECODER_… looks misspelt"


def _url_key(settings: WorkerSettings) -> Verdict:
    if settings.url_key is None:
        return Level.FAIL, "DECODER_URL_KEY is not set: `decoder keys generate --url-key FILE` makes one"
    try:
        keys = len(UrlKeyring.parse(settings.url_key.get_secret_value()).key_ids)
    except DecoderError as error:
        return Level.FAIL, str(error)
    return Level.OK, "1 key" if keys == 1 else f"{keys} keys, the first writes"


def _recipient(settings: WorkerSettings) -> Verdict:
    try:
        return Level.OK, "results are sealed to key " + ", ".join(Recipients(settings).key_ids())
    except SettingsError as error:
        return Level.FAIL, str(error)


def _identity(settings: WorkerSettings) -> Verdict:
    if settings.identity_file is None:
        return Level.OK, "no identity here: nothing that this worker seals can be opened here"
    if settings.recipient or settings.recipients:
        return Level.FAIL, "DECODER_IDENTITY_FILE is set where results are sealed: keep identities away from workers"
    return Level.WARN, "DECODER_IDENTITY_FILE is set: right for a reader, never for a worker"


def _allowlist(settings: WorkerSettings) -> Verdict:
    if not settings.allowed_hosts:
        return Level.FAIL, "DECODER_ALLOWED_HOSTS is empty: every mission would be refused"
    return Level.OK, ", ".join(settings.allowed_hosts)


def _networks(settings: WorkerSettings) -> Verdict:
    if settings.allowed_networks:
        open_ = ", ".join(map(str, settings.allowed_networks))
        return Level.WARN, f"DECODER_ALLOWED_NETWORKS lets fetches through the address guard to {open_}"
    return Level.OK, "no internal network is open to fetches"


def _schemes(settings: WorkerSettings) -> Verdict:
    if "http" in settings.allowed_schemes:
        return Level.WARN, "DECODER_ALLOWED_SCHEMES has http: documents may be read and changed on their way"
    return Level.OK, "https alone"


def _detectors(settings: WorkerSettings) -> Verdict:
    detectors = settings.looks_for
    try:
        scanners = list(detectors.scanners())
    except SettingsError as error:
        return Level.FAIL, "; ".join((str(error), *error.more))
    if off := detectors.off():
        return Level.WARN, f"{NO_ENGINE}; off: {', '.join(off)}"
    names = ", ".join(
        (*(name for name in detectors.names if name == MARKER), *(scanner.detector for scanner in scanners))
    )
    if anew := [scanner.detector for scanner in scanners if not scanner.cached]:
        return (
            Level.WARN,
            f"{names}; the rules of {', '.join(anew)} were compiled anew, for seconds: does {detectors.cache} stay, and is it this user's?",
        )
    return Level.OK, names


def _lease(settings: WorkerSettings) -> Verdict:
    lease, deadline = format_duration(settings.lease_seconds), format_duration(settings.deadline)
    # That it is long enough is a condition of the settings themselves.
    if settings.lease_seconds > _LONG_LEASE * settings.deadline:
        return Level.WARN, f"a lease of {lease} for a deadline of {deadline}: so long missions wait after a crash"
    return Level.OK, f"a lease of {lease} for a deadline of {deadline}"


def _retention(settings: WorkerSettings) -> Verdict:
    result, ledger = format_duration(settings.result_ttl), format_duration(settings.ledger_ttl)
    if settings.result_ttl > settings.ledger_ttl:
        return Level.WARN, f"results stay for {result}, but can only be found for DECODER_LEDGER_TTL={ledger}"
    return Level.OK, f"results {result}, ledger {ledger}"


def _documents(settings: WorkerSettings) -> Verdict:
    try:
        most = memory.worst_case(settings)
    except SettingsError as error:
        return Level.FAIL, str(error)
    places = (most - memory.fixed(settings)) // memory.largest(settings)
    return Level.OK, (
        f"at worst {most // MIB} MiB of {memory.limit(settings) // MIB} MiB: {settings.concurrency} fetches, {places} of them with "
        f"{format_size(settings.max_bytes)} at once"
    )


def _tls(settings: WorkerSettings) -> Verdict:
    if settings.redis_tls:
        return Level.OK, "the connection to Redis is encrypted and verified"
    parts = urlsplit(settings.redis_url.get_secret_value())
    hosts = [urlsplit(f"//{host}").hostname for host in parts.netloc.rpartition("@")[2].split(",")]
    if all(host in _LOOPBACK for host in hosts):
        return Level.OK, "Redis is on this machine"
    return Level.WARN, "the connection to Redis is in clear, its password as well: use rediss:// or rediss+sentinel://"


# What the server says of itself.
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
        return Level.FAIL, f"{name}; takes Redis {OLDEST} or newer, or Valkey"
    return Level.OK, name


def _role(info: Info, _settings: WorkerSettings) -> Verdict:
    if info["role"] != "master":
        return Level.FAIL, "this is a replica, nothing can be written: connect to the primary, or by its Sentinels"
    return Level.OK, "the primary"


def _eviction(info: Info, _settings: WorkerSettings) -> Verdict:
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        return Level.FAIL, f"maxmemory-policy is {policy}: a full Redis would throw missions away; set noeviction"
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
        return Level.FAIL, f"{shown}: nothing is admitted"
    return Level.OK, shown if settings.redis_replicas else f"{shown}: a failover may lose the newest missions"


# What this login may see and do.
def _answered(check: Callable[[redis.Redis], Verdict], client: redis.Redis) -> Verdict:
    try:
        with outages():
            return check(client)
    except LedgerUnavailable as error:
        return Level.WARN, str(error)


def _fsync(client: redis.Redis) -> Verdict:
    try:
        policy = cast("dict[str, str]", client.config_get("appendfsync")).get("appendfsync", "unknown")
    except redis.ResponseError:
        return Level.WARN, "cannot be seen: this login may not use CONFIG GET; `appendfsync always` loses nothing"
    if policy != "always":
        lost = "up to 1 s" if policy == "everysec" else "much"
        return Level.WARN, f"appendfsync is {policy}: a crash of Redis may lose {lost} of admissions; set always"
    return Level.OK, "appendfsync is always"


def _login(client: redis.Redis) -> Verdict:
    try:
        name = str(client.acl_whoami())
    except NoPermissionError:
        return Level.OK, "a login of few rights"
    if name == "default":
        return Level.WARN, "this is the default login, which may do everything: give workers one of their own"
    return Level.OK, f"this is {name}"


def _functions(client: redis.Redis) -> Verdict:
    found, needed = library.number(client), library.LIBRARY
    if found is not None and found >= needed:
        return Level.OK, f"library {found}" if found == needed else f"library {found}, of a newer release"
    what = "Redis lacks the decoder's functions" if found is None else f"library {found} is older than {needed}"
    try:
        library.stored(client)
    except NoPermissionError:
        return Level.FAIL, f"{what}: {library.REMEDY}"
    return Level.OK, f"{what}: a worker with this login loads them when it starts"


def _results(client: redis.Redis) -> Verdict:
    try:
        client.get(result_key(new_mission_id(), 0))
    except NoPermissionError:
        return Level.OK, "this login may not read sealed results back"
    return Level.WARN, "this login may read sealed results: a worker's need not (ACL)"


def _clock(client: redis.Redis) -> Verdict:
    before = time.time()
    seconds, micros = client.time()
    offset = seconds + micros / 1e6 - (before + time.time()) / 2
    if abs(offset) > MAX_CLOCK_OFFSET_SECONDS:
        return Level.WARN, f"Redis' clock is {offset:+.1f} s from this machine's: logs will not line up"
    return Level.OK, f"Redis' clock is {offset:+.3f} s from this machine's"


def _damage(client: redis.Redis) -> Verdict:
    wrong = [
        f"{key!r} is a {found}" for key, type_ in TYPES.items() if (found := _type(client, key)) not in (type_, "none")
    ]
    if missions := client.hlen(Key.DAMAGED):
        wrong.append(f"{missions} missions have an entry that no release writes")
    if wrong:
        return Level.FAIL, f"{'; '.join(wrong)}: somebody wrote over them; `decoder doctor --repair` mends it"
    return Level.OK, "no key of another type, no mission whose entry is damaged"


def _type(client: redis.Redis, key: str) -> str:
    return as_text(client.type(key))


# In the order in which they are told.
_LOCAL = (
    *(_variables, _url_key, _recipient, _identity, _allowlist, _networks, _schemes),
    *(_detectors, _lease, _retention, _documents, _tls),
)
_SERVER = (_version, _role, _eviction, _memory, _aof, _replicas)
_LOGIN = (_fsync, _login, _functions, _results, _clock, _damage)


def _name(check: Callable[..., Verdict]) -> str:
    """A check is called as its function is."""
    return check.__name__[1:].replace("_", "-")
