"""Read queue entries: capped, parsed and checked, down to the few fields that a decoder task needs.

Source: Celery's message protocol 2, in kombu's envelope (https://docs.celeryq.dev/en/stable/internals/protocol.html).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mission.errors import InvalidMission
from mission.ids import check_mission_id
from mission.store import scripts
from mission.store.messages import DECODE, SCHEMA_HEADER, STATUS, SUBMIT, compose

MAX_MESSAGE_BYTES = 256 * 1024
MAX_IDS_PER_MESSAGE = 256
_SUBMIT_OPTIONS: Final[dict[str, tuple[type, ...]]] = {
    "url": (str,),
    "submitter": (str,),
    "expires": (int, float, type(None)),
    "priority": (str,),
}


class MalformedMessage(ValueError):
    """A queue entry is not a message for a decoder task. The text is one of a few fixed ones, never from the entry."""


class NewerMessage(Exception):
    """A queue entry was written by a newer release, before a rollback to this one. The reaper republishes its missions."""


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a queue entry that a decoder task needs.

    Args:
        refused: what was wrong with its arguments. Then they are left out, and the task answers which arguments it takes.
    """

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    refused: str | None = None

    def written(self) -> bytes:
        """The entry, rewritten."""
        return compose(self.task, self.id, self.args, self.kwargs)


def rebuild(entry: bytes) -> bytes:
    """Rewrite a queue entry from the fields that a decoder task needs.

    Raises:
        MalformedMessage, NewerMessage: as `read`.
    """
    return read(entry).written()


def read(entry: bytes) -> Message:
    """Parse a queue entry.

    Raises:
        MalformedMessage: it is too large, not JSON, of another shape, or for another task; no client waits for an answer.
        NewerMessage: its schema is newer than this release's.
    """
    if len(entry) > MAX_MESSAGE_BYTES:
        raise MalformedMessage("too large")
    envelope = _mapping(_json(entry))
    headers = _mapping(envelope.get("headers"))
    _check_schema(headers.get(SCHEMA_HEADER, scripts.WRITES))  # a client that only speaks Celery does not send it
    task, task_id = headers.get("task"), headers.get("id")
    if task not in (DECODE, SUBMIT, STATUS):
        raise MalformedMessage("unknown task")
    try:
        task_id = check_mission_id(task_id)
    except InvalidMission:
        raise MalformedMessage("bad task id") from None
    try:
        args, kwargs = _arguments(task, envelope)
    except MalformedMessage as problem:
        if task == DECODE:
            raise
        return Message(task, task_id, [], {}, str(problem))
    return Message(task, task_id, args, kwargs)


def _check_schema(schema: object) -> None:
    oldest, newest = scripts.READS
    if not isinstance(schema, int) or schema < oldest:
        raise MalformedMessage("unknown schema")
    if schema > newest:
        raise NewerMessage


def _arguments(task: str, envelope: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    if envelope.get("content-type") != "application/json":
        raise MalformedMessage("not JSON")
    body = _json(_decoded(envelope.get("body"), _mapping(envelope.get("properties")).get("body_encoding")))
    if not isinstance(body, list) or len(body) < 2:  # args, kwargs, embed
        raise MalformedMessage("bad body")
    args, kwargs = body[:2]
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
    raise ValueError  # NaN and Infinity are not JSON (RFC 8259, section 6); comparisons with NaN are false


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
