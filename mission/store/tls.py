"""TLS to Redis and to its Sentinels, verified in one way for the ledger, the broker and the result backend."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import redis
from redis.sentinel import Sentinel, SentinelManagedConnection

from mission.files import distrust
from mission.settings import Settings


def tls_options(settings: Settings) -> dict[str, Any]:
    """redis-py's TLS options: always verified, whatever the libraries' defaults are."""
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    verified = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    return verified | {name: str(path) for name, path in files.items() if path}


class Distrusted(redis.ConnectionError):
    """Everybody may change a file that the connection depends on. The message says what to do."""


class VerifiedConnection(redis.SSLConnection):
    """A connection that trusts only the CA file if there is one; redis-py would also trust the system's authorities.

    No option switches the checks off.

    Attributes:
        certificate_end: when the other side's certificate expires, in seconds since the epoch; None before the handshake.
    """

    certificate_end: float | None = None

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        for file in (self.ca_certs, self.certfile, self.keyfile):  # read for each connection: they may have changed
            if file and (problem := distrust(Path(file))):
                raise Distrusted(problem)
        context = ssl.create_default_context(cafile=self.ca_certs)  # the system's authorities only if this is None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile)
        wrapped = context.wrap_socket(sock, server_hostname=self.host)
        self.certificate_end = ssl.cert_time_to_seconds(str((wrapped.getpeercert() or {})["notAfter"]))
        return wrapped


class VerifiedSentinelConnection(SentinelManagedConnection, VerifiedConnection):
    """A verified connection to the master that the Sentinels name."""


def verified(sentinel: Sentinel) -> Sentinel:
    """Set verified connections to the Sentinels too, if they use TLS: redis-py has no option for their class."""
    for node in sentinel.sentinels:
        if issubclass(node.connection_pool.connection_class, redis.SSLConnection):
            node.connection_pool.connection_class = VerifiedConnection
    return sentinel
