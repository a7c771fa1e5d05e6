"""The one choke point for incoming messages: each is checked and rewritten, joined with the next ones, or quarantined.

Many malformed list entries end a stock Celery worker, and it logs others in clear. Here kombu only receives
messages that this module rebuilt from the few fields that a decoder task needs (Celery message protocol 2).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, cast

import redis
from celery.app.amqp import AMQP
from kombu.transport import virtual
from kombu.transport.redis import QoS, SentinelTransport, Transport

from mission.errors import LedgerUnavailable
from mission.model import Reason
from mission.store.broker import VerifiedBroker, VerifiedChannel, VerifiedSentinelChannel
from mission.store.messages import DECODE
from mission.store.names import CHECK_QUEUE, Key
from mission.store.scripts import Scripts
from worker.observe import metrics
from worker.queue.entry import (
    MAX_IDS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    MalformedMessage,
    Message,
    NewerMessage,
    read,
    rebuild,
)

log = logging.getLogger("decoder.intake")

QUARANTINE_LENGTH = 1000
# The maximum number of messages that are joined into one.
_MOST_MESSAGES = 16
# Messages at intervals below `_STREAM_SECONDS` are a stream; in a stream, a message waits `_LINGER_SECONDS` for the next ones. A
# message costs Celery more than a mission costs the rest of the worker.
_STREAM_SECONDS = 0.004
_LINGER_SECONDS = 0.005
# Only the messages that `compose` writes to wake a worker contain this text.
_WAKES = f'"task":"{DECODE}"'
# The minimum interval, in seconds, between searches for unacknowledged messages.
_RESTORE_SECONDS = 10


class _GuardedRedis(redis.Redis):
    """kombu's client, whose BRPOP returns a checked and rewritten message, or nothing."""

    # The number of free slots; only a worker's client has any.
    room: Callable[[], int] = staticmethod(lambda: 0)
    _streaming = False
    _heard_at = -math.inf

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """The answer; for BRPOP a message, None after a quarantine."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if command_name != "BRPOP" or not answer:
            return answer
        queue, entry = answer
        message = self._checked(entry, told=not queue.startswith(CHECK_QUEUE.encode()))
        if message is None:
            return None
        if message.refused:
            self._quarantine(entry, message.refused)
        if message.task == DECODE:
            self._join_more(queue.decode(), message.args[0])
        return [queue, message.written()]

    def _checked(self, entry: bytes, *, told: bool = True) -> Message | None:
        try:
            return read(entry)
        except MalformedMessage as problem:
            if told:
                self._quarantine(entry, str(problem))
        except NewerMessage:
            log.warning("message of a newer release skipped; its missions will be republished")
        return None

    def _join_more(self, queue: str, ids: list[str]) -> None:
        """Add the missions of the next messages to `ids` while there are free slots: Celery then handles one message for all."""
        if self.room() < 2 * len(ids):
            return
        since, self._heard_at = time.monotonic() - self._heard_at, time.monotonic()
        if self._streaming or since < _STREAM_SECONDS:
            time.sleep(_LINGER_SECONDS)
        with suppress(LedgerUnavailable):
            count = min(self.room() // len(ids), _MOST_MESSAGES) - 1
            more = self._scripts.run("take", count, _WAKES, MAX_MESSAGE_BYTES, queue) if count > 0 else []
            self._streaming = bool(more)
            for entry in more:
                message = self._checked(entry)
                if message is None:
                    continue
                if message.task == DECODE and len(ids) + len(message.args[0]) <= MAX_IDS_PER_MESSAGE:
                    ids += message.args[0]
                else:  # it only looked like a wake-up, or has too many missions
                    self._own.rpush(queue, entry)

    @cached_property
    def _own(self) -> redis.Redis:
        return redis.Redis(connection_pool=self.connection_pool)

    @cached_property
    def _scripts(self) -> Scripts:
        return Scripts(self._own)

    def _quarantine(self, entry: bytes, problem: str) -> None:
        """Store a hash and a size, never the entry, which may hold anything."""
        metrics.SECURITY_EVENTS.labels(Reason.MALFORMED_MESSAGE.value).inc()
        facts: dict[Any, Any] = {"sha256": hashlib.sha256(entry).hexdigest(), "bytes": len(entry), "problem": problem}
        log.warning("malformed message: %s, %d bytes", problem, len(entry), extra={"event.reason": "malformed_message"})
        try:
            self._own.xadd(Key.QUARANTINE, facts, maxlen=QUARANTINE_LENGTH, approximate=True)
        except redis.RedisError as error:
            log.warning("quarantine not written: %s", type(error).__name__)


class _GuardedQoS(QoS):
    """kombu's record of unacknowledged messages. Drop entries that are not messages: each would end one worker after the other."""

    def restore_visible(self, start: int = 0, num: Any = 10, interval: int = 10) -> None:
        """Requeue messages that are unacknowledged for the visibility timeout; one worker at a time looks, at intervals.

        kombu releases its lock with a script of redis-py, and a worker's login may not run scripts. This lock expires.
        """
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        with self.channel.conn_or_acquire() as client:
            if not client.set(self.unacked_mutex_key, "1", nx=True, ex=_RESTORE_SECONDS):
                return
            oldest = time.time() - self.visibility_timeout
            for tag in client.zrange(self.unacked_index_key, 0, oldest, byscore=True, offset=start, num=num or -1):
                self.restore_by_tag(tag, client)

    def append(self, message: Any, delivery_tag: Any) -> None:
        """Keep a message until it is acknowledged. A wake-up is kept only in this process, since the ledger knows its missions."""
        keep = partial(virtual.QoS.append, self) if message.headers["task"] == DECODE else super().append
        keep(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def ack(self, delivery_tag: Any) -> None:
        """Delete the acknowledged message."""
        only_here = self._delivered[delivery_tag].headers["task"] == DECODE
        forget = partial(virtual.QoS.ack, self) if only_here else super().ack
        forget(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: Any = False) -> None:
        """Put a message back into the queue; drop it if that fails."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # kombu has few types
        except (ValueError, TypeError, LookupError, AttributeError, NewerMessage) as error:
            log.warning("malformed unacknowledged message: %s", type(error).__name__)
            metrics.SECURITY_EVENTS.labels(Reason.MALFORMED_MESSAGE.value).inc()
            with self.channel.conn_or_acquire(client) as connected, connected.pipeline() as pipe:
                self._remove_from_indices(tag, pipe).execute()  # type: ignore[no-untyped-call]  # kombu has few types


class GuardedChannel(VerifiedChannel):
    """kombu's channel over the guarded client, and with the guarded record of unacknowledged messages."""

    QoS = _GuardedQoS
    _own: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:  # noqa: FBT001 (kombu's signature)
        """Create one client per pool: kombu creates one for each command, which costs more than the command."""
        if asynchronous:
            client = cast("_GuardedRedis", super()._create_client(asynchronous=True))  # type: ignore[no-untyped-call]  # as below
            client.room = self.connection.client.transport_options.get("room", client.room)
            return client
        if self._own is None or self._own.connection_pool is not self.pool:
            self._own = cast("redis.Redis", super()._create_client())  # type: ignore[no-untyped-call]  # as below
        return self._own

    def _get_client(self) -> type[redis.Redis]:
        super()._get_client()  # type: ignore[no-untyped-call]  # untyped; it checks redis-py's version
        return _GuardedRedis

    def _do_restore_message(self, payload: Any, *args: Any, **options: Any) -> None:
        rebuild(json.dumps(payload).encode())  # kombu would log a message that it cannot put back
        super()._do_restore_message(payload, *args, **options)  # type: ignore[no-untyped-call]  # kombu has few types


class GuardedSentinelChannel(GuardedChannel, VerifiedSentinelChannel):
    """The same through Sentinel."""


class GuardedTransport(Transport):
    """kombu's transport with the guarded channel."""

    Channel = GuardedChannel


class GuardedSentinelTransport(SentinelTransport):
    """The same through Sentinel."""

    Channel = GuardedSentinelChannel


class GuardedConnection(VerifiedBroker):
    """kombu's connection over a guarded transport."""

    direct, by_sentinel = GuardedTransport, GuardedSentinelTransport


class GuardedAMQP(AMQP):  # type: ignore[misc]  # celery has no types
    """The connections of an app: `Celery(amqp=GuardedAMQP)`."""

    Connection = GuardedConnection
