"""Connections to Redis for both sides: TLS, Sentinel, time limits, and errors for outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from mission.errors import LedgerRefuses, LedgerUnavailable
from mission.settings import Settings
from mission.store.tls import Distrusted, VerifiedConnection, VerifiedSentinelConnection, tls_options, verified

# redis-py's own default of 100 makes a busy worker fail with MaxConnectionsError.
MAX_CONNECTIONS = 4096


def connect(settings: Settings) -> redis.Redis:
    """A client for the ledger. It connects at its first command, not here.

    Every answer takes at most `redis_timeout` seconds. A dead connection is reopened once; a command that timed
    out is not sent again.
    """
    url = settings.redis_url.get_secret_value()
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "socket_keepalive": True,
        "retry": _once_more(),
        "max_connections": MAX_CONNECTIONS,
    }
    if settings.redis_tls:
        by_tls = VerifiedSentinelConnection if settings.redis_sentinel else VerifiedConnection
        options |= tls_options(settings) | {"connection_class": by_tls}
    if not settings.redis_sentinel:
        return redis.Redis.from_url(url, **options)
    nodes, master, login = parse_sentinel(url)
    sentinel = Sentinel(nodes, sentinel_kwargs=sentinel_options(settings, login), **options, **login)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    client: redis.Redis = verified(sentinel).master_for(master)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    return client


def sentinel_options(settings: Settings, login: dict[str, str]) -> dict[str, Any]:
    """Options for Sentinels: by default, redis-py retries a silent one far beyond the time limit."""
    seconds = settings.redis_timeout
    tls = tls_options(settings) | {"ssl": True} if settings.redis_tls else {}
    return login | tls | {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": _once_more()}


def _once_more() -> Retry:
    return Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))


def parse_sentinel(url: str) -> tuple[list[tuple[str, int]], str, dict[str, str]]:
    """The nodes, the master's name and the login of `sentinel://user:password@host:26379,host:26379/master`, or `rediss+sentinel://…`."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    nodes = [(str(node.hostname), node.port or 26379) for node in (urlsplit(f"//{host}") for host in hosts.split(","))]
    credentials = {"username": unquote(user), "password": unquote(password)}
    return nodes, parts.path.strip("/"), {name: value for name, value in credentials.items() if value}


@contextmanager
def outages() -> Iterator[None]:
    """Turn every error of Redis or its client into `LedgerUnavailable`, in one sentence; an error answer of Redis becomes
    `LedgerRefuses`.
    """
    try:
        yield
    except redis.ResponseError as error:
        raise LedgerRefuses(f"store_unavailable: {explain(error)}") from None
    except redis.RedisError as error:
        raise LedgerUnavailable(f"store_unavailable: {explain(error)}") from None


def explain(error: Exception) -> str:
    """What went wrong with Redis, and what to check, in one line without a password."""
    if isinstance(error, MasterNotFoundError):  # its text is the repr of a client
        return "the Sentinels know no master of that name, or do not answer: check DECODER_REDIS_URL, and with TLS their certificates"
    if isinstance(error, Distrusted):
        return str(error)
    # For a pipeline, redis-py puts the command and its arguments in front of the message.
    said = str(error).rpartition(" of pipeline caused error: ")[2].strip()
    text = said.splitlines()[0][:200].rstrip(".") if said else type(error).__name__
    if isinstance(error, redis.AuthenticationError):
        # redis-py's text is about a command that the user did not type.
        text = "Redis requires a password" if text.startswith("HELLO must") else f"Redis refuses the login ({text})"
        return f"{text}: check user and password in DECODER_REDIS_URL"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{text}: check the CA in DECODER_REDIS_CA_FILE, and that the host in DECODER_REDIS_URL matches the certificate"
    if isinstance(error, redis.exceptions.MaxConnectionsError | redis.exceptions.BusyLoadingError):
        return text
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"{text}: check that Redis is up, and host, port and TLS (redis:// or rediss://) in DECODER_REDIS_URL"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return "this Redis user may not do that; docs/redis-users.md lists the users that may (DECODER_REDIS_URL)"
    if text.startswith("WRONGTYPE"):
        return f"{text}: a worker sets aside a blocking key within a second; `decoder doctor` shows what is left"
    if text.startswith("DB index"):
        return f"{text}: check the number at the end of DECODER_REDIS_URL"
    return text
