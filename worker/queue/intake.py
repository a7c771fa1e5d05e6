"""The one choke point where a message comes in: capped, parsed, checked and rebuilt, or put into quarantine.

A stock Celery worker ends on many a malformed list entry, and logs others in clear. Here nothing reaches kombu but a
message that this module wrote anew from the few fields that a decoder task needs (Celery message protocol 2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, cast

import redis
from celery.app.amqp import AMQP
from kombu.transport import virtual
from kombu.transport.redis import QoS, SentinelTransport, Transport

from mission.errors import InvalidMission, LedgerUnavailable
from mission.ids import check_mission_id
from mission.model import Reason
from mission.store import scripts
from mission.store.broker import VerifiedBroker, VerifiedChannel, VerifiedSentinelChannel
from mission.store.messages import DECODE, SCHEMA_HEADER, STATUS, SUBMIT, compose
from mission.store.names import CHECK_QUEUE, QUEUE, Key
from mission.store.scripts import Scripts
from worker.observe import metrics

log = logging.getLogger("decoder.intake")

MAX_MESSAGE_BYTES = 256 * 1024
MAX_IDS_PER_MESSAGE = 256
QUARANTINE_LENGTH = 1000
# So many messages become one at most.
_MOST_MESSAGES = 16
# Messages that come closer together than this are a stream, and then one waits so long for the next ones: to handle a message
# costs Celery more than a mission costs the rest of the worker.
_STREAM_SECONDS = 0.004
_LINGER_SECONDS = 0.005
# In the text of each that `compose` writes to wake a worker, and of no other.
_WAKES = f'"task":"{DECODE}"'
# At most so often workers look for messages that nobody has acknowledged.
_RESTORE_SECONDS = 10
_SUBMIT_OPTIONS: Final[dict[str, tuple[type, ...]]] = {
    "url": (str,),
    "submitter": (str,),
    "expires": (int, float, type(None)),
}


class MalformedMessage(ValueError):
    """A queue entry is no message for a decoder task. Its text is one of a few fixed words, never the entry's."""


class NewerMessage(Exception):
    """A queue entry is of a newer release, which this one was rolled back from. The reaper publishes its missions anew."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a decoder task needs of a queue entry."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]

    def written(self) -> bytes:
        """The entry, written anew."""
        return compose(self.task, self.id, self.args, self.kwargs)


def rebuild(entry: bytes) -> bytes:
    """A queue entry written anew, from the fields that a decoder task needs.

    Raises:
        MalformedMessage, NewerMessage: as `read`.
    """
    return read(entry).written()


def read(entry: bytes) -> Message:
    """What a queue entry says.

    Raises:
        MalformedMessage: it is too large, not JSON, of another shape, or for another task.
        NewerMessage: its schema is newer than this release's.
    """
    if len(entry) > MAX_MESSAGE_BYTES:
        raise MalformedMessage("too large")
    envelope = _mapping(_json(entry))
    headers = _mapping(envelope.get("headers"))
    _check_schema(headers.get(SCHEMA_HEADER, scripts.WRITES))  # who only speaks Celery does not say
    task, task_id = headers.get("task"), headers.get("id")
    if task not in (DECODE, SUBMIT, STATUS):
        raise MalformedMessage("unknown task")
    try:
        task_id = check_mission_id(task_id)
    except InvalidMission:
        raise MalformedMessage("bad task id") from None
    if envelope.get("content-type") != "application/json":
        raise MalformedMessage("not JSON")
    body = _json(_decoded(envelope.get("body"), _mapping(envelope.get("properties")).get("body_encoding")))
    if not isinstance(body, list) or len(body) < 2:  # args, kwargs, embed
        raise MalformedMessage("bad body")
    args, kwargs = _arguments(task, body[0], body[1])
    return Message(task, task_id, args, kwargs)


def _check_schema(schema: object) -> None:
    oldest, newest = scripts.READS
    if not isinstance(schema, int) or schema < oldest:
        raise MalformedMessage("unknown schema")
    if schema > newest:
        raise NewerMessage


def _arguments(task: str, args: object, kwargs: object) -> tuple[list[Any], dict[str, Any]]:
    if not isinstance(args, list) or not isinstance(kwargs, dict) or len(args) > 1:
        raise MalformedMessage("bad arguments")
    if task == SUBMIT:
        options = dict(kwargs) if not args else kwargs | {"url": args[0]}
        if len(options) < len(args) + len(kwargs) or "url" not in options:
            raise MalformedMessage("bad arguments")
        if not all(isinstance(value, _SUBMIT_OPTIONS.get(name, ())) for name, value in options.items()):
            raise MalformedMessage("bad arguments")
        return [], options
    if kwargs or len(args) != 1:
        raise MalformedMessage("bad arguments")
    ids = args[0] if task == DECODE else [args[0]]
    if not isinstance(ids, list) or not 0 < len(ids) <= MAX_IDS_PER_MESSAGE:
        raise MalformedMessage("bad arguments")
    try:
        ids = [check_mission_id(item) for item in ids]
    except InvalidMission:
        raise MalformedMessage("bad mission id") from None
    return [ids if task == DECODE else ids[0]], {}


def _json(text: bytes) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedMessage("not JSON") from None


def _refuse_constant(_name: str) -> None:
    raise ValueError  # NaN and Infinity are no JSON (RFC 8259, section 6); comparisons with NaN are false


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedMessage("wrong shape")
    return value


def _decoded(body: object, encoding: object) -> bytes:
    if not isinstance(body, str):
        raise MalformedMessage("bad body")
    try:
        return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise MalformedMessage("bad body") from None


class _GuardedRedis(redis.Redis):
    """kombu's client, whose BRPOP gives a message that was checked and written anew, or nothing."""

    # For how many more missions there is a place; only a worker's has any.
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
        if message.task == DECODE:
            self._join_more(message.args[0])
        return [queue, message.written()]

    def _checked(self, entry: bytes, *, told: bool = True) -> Message | None:
        try:
            return read(entry)
        except MalformedMessage as problem:
            if told:
                self._quarantine(entry, str(problem))
        except NewerMessage:
            log.warning("message of a newer release passed over; its missions are published anew")
        return None

    def _join_more(self, ids: list[str]) -> None:
        """To a message's missions join those of the next ones, while there is a place for them: Celery handles one message for all."""
        if self.room() < 2 * len(ids):
            return
        since, self._heard_at = time.monotonic() - self._heard_at, time.monotonic()
        if self._streaming or since < _STREAM_SECONDS:
            time.sleep(_LINGER_SECONDS)
        with suppress(LedgerUnavailable):
            count = min(self.room() // len(ids), _MOST_MESSAGES) - 1
            more = self._scripts.run("take", count, _WAKES) if count > 0 else []
            self._streaming = bool(more)
            for entry in more:
                message = self._checked(entry)
                if message is None:
                    continue
                if message.task == DECODE and len(ids) + len(message.args[0]) <= MAX_IDS_PER_MESSAGE:
                    ids += message.args[0]
                else:
                    self._own.rpush(
                        QUEUE, entry
                    )  # it only looked like one, or is one of somebody else's with very many

    @cached_property
    def _own(self) -> redis.Redis:
        return redis.Redis(connection_pool=self.connection_pool)

    @cached_property
    def _scripts(self) -> Scripts:
        return Scripts(self._own)

    def _quarantine(self, entry: bytes, problem: str) -> None:
        """Keep a hash and a size, never the entry: it may hold anything."""
        metrics.SECURITY_EVENTS.labels(Reason.MALFORMED_MESSAGE.value).inc()
        facts: dict[Any, Any] = {"sha256": hashlib.sha256(entry).hexdigest(), "bytes": len(entry), "problem": problem}
        log.warning("malformed message: %s, %d bytes", problem, len(entry), extra={"event.reason": "malformed_message"})
        try:
            self._own.xadd(Key.QUARANTINE, facts, maxlen=QUARANTINE_LENGTH, approximate=True)
        except redis.RedisError as error:
            log.warning("quarantine not written: %s", type(error).__name__)


class _GuardedQoS(QoS):
    """kombu's record of the messages in hand: what is no message there is dropped, or each worker would die of it in turn."""

    def restore_visible(self, start: int = 0, num: Any = 10, interval: int = 10) -> None:
        """Put back what nobody has acknowledged for the visibility timeout; one worker looks, once in a while.

        kombu gives its lock back by a script of redis-py's, and a worker's login may run none. This one runs out.
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
        """Keep a message until it is acknowledged: here alone where it only wakes a worker, since the ledger knows its missions."""
        keep = partial(virtual.QoS.append, self) if message.headers["task"] == DECODE else super().append
        keep(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def ack(self, delivery_tag: Any) -> None:
        """Keep it no longer."""
        only_here = self._delivered[delivery_tag].headers["task"] == DECODE
        forget = partial(virtual.QoS.ack, self) if only_here else super().ack
        forget(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: Any = False) -> None:
        """Put a message back into the queue; drop it where that cannot be done."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # kombu has few types
        except (ValueError, TypeError, LookupError, AttributeError, NewerMessage) as error:
            log.warning("malformed message in hand: %s", type(error).__name__)
            metrics.SECURITY_EVENTS.labels(Reason.MALFORMED_MESSAGE.value).inc()
            with self.channel.conn_or_acquire(client) as connected, connected.pipeline() as pipe:
                self._remove_from_indices(tag, pipe).execute()  # type: ignore[no-untyped-call]  # kombu has few types


class GuardedChannel(VerifiedChannel):
    """kombu's channel over the guarded client, and with the guarded record of what is in hand."""

    QoS = _GuardedQoS
    _own: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:  # noqa: FBT001 (kombu's signature)
        """One client for as long as its pool lives: kombu makes one for each command, which costs more than the command."""
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
        rebuild(json.dumps(payload).encode())  # kombu would log what it cannot put back
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
    """What an app connects by: `Celery(amqp=GuardedAMQP)`."""

    Connection = GuardedConnection
