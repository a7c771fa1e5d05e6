"""Celery's result backends, with TLS verified like the ledger's. Celery imports them by name: see `celery_config`."""

from __future__ import annotations

from typing import Any

from celery.backends import redis as celery
from redis.sentinel import Sentinel

from mission.store.tls import VerifiedConnection, VerifiedSentinelConnection, verified


class Direct(celery.RedisBackend):  # type: ignore[misc]  # celery has no types
    """For one server, at `rediss://`."""

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = super()._params_from_url(url, defaults)
        return found | {"connection_class": VerifiedConnection}


class BySentinel(celery.SentinelBackend):  # type: ignore[misc]  # celery has no types
    """For the master that Sentinels name. Celery's scheme is always `sentinel://`, even with TLS to the Sentinels."""

    connection_class_ssl = VerifiedSentinelConnection

    def _get_sentinel_instance(self, **params: Any) -> Sentinel:
        return verified(super()._get_sentinel_instance(**params))
