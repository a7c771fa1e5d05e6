"""The messages: Celery's settings that both sides share, and the publishing of wake-ups.

A message only carries the ids of the missions that it was sent for. It may be lost or duplicated: the ledger holds the truth. A worker
that takes it claims that many missions, namely those whose turn it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from kombu.entity import Exchange, Queue

from mission.ids import new_mission_id
from mission.settings import Settings
from mission.store import scripts
from mission.store.connection import parse_sentinel, sentinel_options
from mission.store.names import QUEUE, QUEUE_OF
from mission.store.tls import tls_options

DECODE = "decoder.decode"
SUBMIT = "decoder.submit"
STATUS = "decoder.status"
IDS_PER_MESSAGE = 16
# The header with the number of a message's format: see `mission.store.scripts`.
SCHEMA_HEADER = "decoder_schema"
RESULT_SECONDS = 3600
# Only `decoder.submit` depends on redelivery; a decode message that comes twice is a no-op.
VISIBILITY_SECONDS = 300

_as_json = json.JSONEncoder(separators=(",", ":")).encode  # `dumps` creates an encoder for each call


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's configuration, the same for producer and worker."""
    url = settings.redis_url.get_secret_value()
    transport: dict[str, Any] = {
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "socket_keepalive": True,
        "visibility_timeout": VISIBILITY_SECONDS,
    }
    config: dict[str, Any] = {}
    backend = ""  # Celery's own, by the URL's scheme
    if settings.redis_sentinel:
        nodes, transport["master_name"], login = parse_sentinel(url)
        user, password = (quote(login.get(name, ""), safe="") for name in ("username", "password"))
        secret = f"{user}:{password}@" if password else ""
        url = ";".join(f"sentinel://{secret}{host}:{port}" for host, port in nodes)
        transport["sentinel_kwargs"] = sentinel_options(settings, login)
    if settings.redis_tls:
        # A bare rediss:// means CERT_NONE to kombu and to Celery's result backend.
        config |= {"broker_use_ssl": tls_options(settings), "redis_backend_use_ssl": tls_options(settings)}
        backend = f"mission.store.result_backend:{'BySentinel' if settings.redis_sentinel else 'Direct'}+"
    return config | {
        "broker_url": url,
        "broker_transport_options": transport,
        "broker_connection_timeout": settings.redis_timeout,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": backend + url,
        "result_backend_transport_options": transport,
        "result_expires": RESULT_SECONDS,
        "redis_socket_timeout": settings.redis_timeout,
        "redis_socket_connect_timeout": settings.redis_timeout,
        "task_default_queue": QUEUE,
        # Each is bound by its own name; by default, all would be bound by the name of the first.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUE_OF.values()],  # type: ignore[no-untyped-call]  # kombu has few types
        "task_create_missing_queues": False,
        "task_ignore_result": True,
        "accept_content": ["json"],
    }


def compose(task: str, task_id: str, args: list[Any], kwargs: dict[str, Any], queue: str = QUEUE) -> bytes:
    """A message for a task, as stored in its queue. It only has the fields that Celery needs, since there may be very many.

    Source: https://docs.celeryq.dev/en/stable/internals/protocol.html (version 2), in kombu's envelope.
    """
    message = {
        "body": _as_json([args, kwargs, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": task_id, SCHEMA_HEADER: scripts.WRITES},
        "properties": {"delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": new_mission_id()},
    }
    return _as_json(message).encode()


def wake_ups(ids: Sequence[str], queue: str = QUEUE, per_message: int = IDS_PER_MESSAGE) -> list[bytes]:
    """Messages for a queue that wake workers for these missions, `per_message` missions each."""
    return [
        compose(DECODE, new_mission_id(), [list(ids[start : start + per_message])], {}, queue)
        for start in range(0, len(ids), per_message)
    ]
