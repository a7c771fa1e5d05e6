"""kombu's connections to Redis, with TLS verified like the ledger's."""

from __future__ import annotations

from typing import Any, ClassVar

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis as kombu

from mission.store.tls import VerifiedConnection, VerifiedSentinelConnection, verified


class VerifiedChannel(kombu.Channel):
    """kombu's channel with verified TLS."""

    connection_class_ssl: Any = VerifiedConnection


class VerifiedSentinelChannel(VerifiedChannel, kombu.SentinelChannel):
    """The same through Sentinel."""

    connection_class_ssl: Any = VerifiedSentinelConnection

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001 (kombu's signature)
        pool = super()._sentinel_managed_pool(asynchronous)  # type: ignore[no-untyped-call]  # kombu has few types
        verified(pool.sentinel_manager)
        return pool


class VerifiedTransport(kombu.Transport):
    """kombu's transport with verified TLS."""

    Channel = VerifiedChannel


class VerifiedSentinelTransport(kombu.SentinelTransport):
    """kombu's transport through Sentinel with verified TLS."""

    Channel = VerifiedSentinelChannel


class VerifiedBroker(Connection):
    """kombu's connection with verified TLS, for every URL that it is given or, with several Sentinels, switches to."""

    direct: ClassVar[type[kombu.Transport]] = VerifiedTransport
    by_sentinel: ClassVar[type[kombu.Transport]] = VerifiedSentinelTransport

    def get_transport_cls(self) -> type[kombu.Transport]:
        """Our transport in place of kombu's. kombu would forget `broker_transport` on a switch, and read it as a URL's scheme."""
        sentinel = issubclass(super().get_transport_cls(), kombu.SentinelTransport)  # type: ignore[no-untyped-call]  # kombu has few types
        return self.by_sentinel if sentinel else self.direct


class VerifiedAMQP(AMQP):  # type: ignore[misc]  # celery has no types
    """Celery's AMQP layer with verified connections: `Celery(amqp=VerifiedAMQP)`."""

    Connection = VerifiedBroker
