"""The condition of the Redis server, from INFO and its certificate: memory, durability, replicas."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from mission.store.connection import outages
from mission.store.tls import VerifiedConnection

# Only new connections show a renewed certificate, and one handshake for each scrape would be too many.
CERTIFICATE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Condition:
    """The server's condition.

    Args:
        memory_used: in bytes.
        memory_limit: in bytes, 0 without one.
        evicts: the server would evict keys when its memory is full.
        aof_written: the AOF is on, and its last write succeeded.
        replicas: how many are connected and in sync.
        replica_lag: seconds since the last report of the replica that is furthest behind; None without replicas.
        certificate_end: when its certificate expires, in seconds since the epoch; None without TLS.
    """

    memory_used: int
    memory_limit: int
    evicts: bool
    aof_written: bool
    replicas: int
    replica_lag: float | None = None
    certificate_end: float | None = None


class Server:
    """The server behind a client. The login needs INFO."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._certificate_end: float | None = None
        self._look_again_at = 0.0

    def condition(self) -> Condition:
        """The condition now; the certificate's end may be up to an hour old.

        Raises:
            LedgerUnavailable: it does not answer, or the login may not ask.
        """
        with outages():
            info = cast("Mapping[str, Any]", self._client.info("memory", "persistence", "replication"))
            if time.monotonic() >= self._look_again_at:
                self._certificate_end = self._handshake()
                self._look_again_at = time.monotonic() + CERTIFICATE_SECONDS
        online = [
            float(facts["lag"])
            for name, facts in info.items()
            if name.startswith("slave") and isinstance(facts, Mapping) and facts.get("state") == "online"
        ]
        return Condition(
            memory_used=int(info["used_memory"]),
            memory_limit=int(info["maxmemory"]),
            evicts=info["maxmemory_policy"] != "noeviction",
            aof_written=bool(info["aof_enabled"]) and info["aof_last_write_status"] == "ok",
            replicas=len(online),
            replica_lag=max(online, default=None),
            certificate_end=self._certificate_end,
        )

    def size_of(self, *keys: str) -> int:
        """Bytes that these keys take together, as the server estimates it from some of their elements.

        Raises:
            LedgerUnavailable: it does not answer, or the login may not ask.
        """
        with outages():
            return sum(self._client.memory_usage(key) or 0 for key in keys)

    def _handshake(self) -> float | None:
        pool = self._client.connection_pool
        if not issubclass(pool.connection_class, VerifiedConnection):
            return None
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
            return cast("float", connection.certificate_end)
        finally:
            connection.disconnect()
