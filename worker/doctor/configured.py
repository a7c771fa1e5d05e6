"""Checks of the settings that concern the login."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from mission.errors import DecoderError, SettingsError
from mission.seal.sealing import load_identity
from mission.seal.url_keys import UrlKeyring
from mission.units import format_duration, format_size
from worker.doctor.finding import Finding, Level, Verdict
from worker.extract.detectors import MARKER, NO_ENGINE
from worker.fetch.credentials import Credentials
from worker.fetch.policy import UrlPolicy
from worker.keys.recipients import Recipients
from worker.settings import WorkerSettings
from worker.work import memory
from worker.work.memory import MIB

_LONG_LEASE = 20
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def findings(settings: WorkerSettings, seat: str) -> Iterator[Finding]:
    """Yield a finding for each check, depending on the login's role."""
    for name, (check, seats) in _CHECKS.items():
        if seats and seat not in seats:
            yield Finding(name, Level.SKIP, f"for a {seats[0]} to set, not for this login")
        elif seat == "reader" and name == "identity":
            yield Finding(name, *_readers_identity(settings))
        else:
            yield Finding(name, *check(settings))


def _variables(_settings: WorkerSettings) -> Verdict:
    if misspelt := WorkerSettings.misspelt():
        return Level.WARN, "; ".join(misspelt)
    return Level.OK, "no DECODER_… variable looks misspelt"


def _url_key(settings: WorkerSettings) -> Verdict:
    if settings.url_key is None:
        return Level.FAIL, "DECODER_URL_KEY is not set: generate one with `decoder keys generate --url-key FILE`"
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
        return Level.OK, "no identity here: this machine cannot open the results that its worker seals"
    if settings.recipient or settings.recipients:
        return Level.FAIL, "DECODER_IDENTITY_FILE is set where results are sealed: keep identities away from workers"
    return Level.WARN, "DECODER_IDENTITY_FILE is set: right for a reader, never for a worker"


def _readers_identity(settings: WorkerSettings) -> Verdict:
    if settings.identity_file is None:
        return Level.WARN, "DECODER_IDENTITY_FILE is not set: a read needs it, or --identity FILE"
    try:
        return Level.OK, f"opens what is sealed to key {load_identity(settings.identity_file).key_id.hex()}"
    except DecoderError as error:
        return Level.FAIL, str(error)


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
        return Level.WARN, "DECODER_ALLOWED_SCHEMES has http: documents may be read and changed in transit"
    return Level.OK, "only https"


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
            f"{names}; the rules of {', '.join(anew)} were recompiled, which takes seconds: is {detectors.cache} persistent and owned by this user?",
        )
    return Level.OK, names


def _credentials(settings: WorkerSettings) -> Verdict:
    if settings.credentials is None:
        return Level.OK, "none: documents behind a login cannot be fetched"
    try:
        entries = Credentials(settings, UrlPolicy.from_settings(settings)).entries
    except SettingsError as error:
        return Level.FAIL, str(error)
    return Level.OK, f"for {', '.join(map(str, entries)) or 'no entry of the allowlist'}"


def _lease(settings: WorkerSettings) -> Verdict:
    lease, deadline = format_duration(settings.lease_seconds), format_duration(settings.deadline)
    # The settings themselves ensure that it is long enough.
    if settings.lease_seconds > _LONG_LEASE * settings.deadline:
        return Level.WARN, f"a lease of {lease} for a deadline of {deadline}: after a crash, missions wait that long"
    return Level.OK, f"a lease of {lease} for a deadline of {deadline}"


def _retention(settings: WorkerSettings) -> Verdict:
    result, ledger = format_duration(settings.result_ttl), format_duration(settings.ledger_ttl)
    if settings.result_ttl > settings.ledger_ttl:
        return Level.WARN, f"results are kept for {result}, but can only be found for DECODER_LEDGER_TTL={ledger}"
    return Level.OK, f"results {result}, ledger {ledger}"


def _documents(settings: WorkerSettings) -> Verdict:
    try:
        most = memory.worst_case(settings)
    except SettingsError as error:
        return Level.FAIL, str(error)
    places = (most - memory.fixed(settings)) // memory.largest(settings)
    return Level.OK, (
        f"at worst {most // MIB} MiB of {memory.limit(settings) // MIB} MiB: {settings.concurrency} fetches and an urgent one, {places} of them with "
        f"{format_size(settings.max_bytes)} at once"
    )


def _tls(settings: WorkerSettings) -> Verdict:
    if settings.redis_tls:
        return Level.OK, "the connection to Redis is encrypted and verified"
    parts = urlsplit(settings.redis_url.get_secret_value())
    hosts = [urlsplit(f"//{host}").hostname for host in parts.netloc.rpartition("@")[2].split(",")]
    if all(host in _LOOPBACK for host in hosts):
        return Level.OK, "Redis is on this machine"
    return (
        Level.WARN,
        "the connection to Redis is unencrypted, including its password: use rediss:// or rediss+sentinel://",
    )


_WORKERS = ("worker",)
# In the order of the output. The tuple names the roles that a check is for; empty means all.
_CHECKS: dict[str, tuple[Callable[[WorkerSettings], Verdict], tuple[str, ...]]] = {
    "variables": (_variables, ()),
    "url-key": (_url_key, ("worker", "producer")),
    "recipient": (_recipient, _WORKERS),
    "identity": (_identity, ("reader", "worker")),
    "allowlist": (_allowlist, _WORKERS),
    "networks": (_networks, _WORKERS),
    "schemes": (_schemes, _WORKERS),
    "credentials": (_credentials, _WORKERS),
    "detectors": (_detectors, _WORKERS),
    "lease": (_lease, _WORKERS),
    "retention": (_retention, _WORKERS),
    "documents": (_documents, _WORKERS),
    "tls": (_tls, ()),
}
