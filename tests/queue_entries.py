"""Queue entries: a good one to start from, and every kind of bad one that we could think of."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import uuid
from collections.abc import Callable
from typing import Any

# A mark in every bad entry: output that contains it has leaked an entry's content.
CANARY = "canary-of-a-malformed-message-7f3a91c5"

Change = Callable[[dict[str, Any]], None]


def encoded(value: object) -> str:
    """A body as kombu writes it."""
    return base64.b64encode(json.dumps(value).encode()).decode()


def envelope(task: str = "decoder.decode", args: object = None, kwargs: object = None) -> dict[str, Any]:
    """A message as Celery publishes it (protocol 2), for a mission that nobody admitted."""
    task_id = str(uuid.uuid4())
    arguments = [[str(uuid.uuid4())]] if args is None else args
    return {
        "body": encoded([arguments, {} if kwargs is None else kwargs, {"callbacks": None, "errbacks": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": CANARY,
            "kwargsrepr": CANARY,
            "origin": CANARY,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "missions"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def arguments(message: bytes) -> tuple[list[Any], dict[str, Any]]:
    """What to ask for in a message of the decoder's own."""
    args, kwargs, _ = json.loads(json.loads(message)["body"])
    return args, kwargs


def entry(task: str = "decoder.decode", args: object = None, kwargs: object = None) -> bytes:
    """The same message as it is stored in the list."""
    return json.dumps(envelope(task, args, kwargs)).encode()


def _changed(change: Change) -> bytes:
    return _asking("decoder.decode", change)


def _asking(task: str, change: Change) -> bytes:
    message = envelope(task)
    change(message)
    return json.dumps(message | {"note": CANARY}).encode()


def _pickled() -> str:
    return base64.b64encode(pickle.dumps(([[CANARY]], {}, {}))).decode()


def _header(name: str, value: object) -> bytes:
    return _changed(lambda message: message["headers"].update({name: value}))


def _property(name: str, value: object) -> bytes:
    return _changed(lambda message: message["properties"].update({name: value}))


def _field(name: str, value: object) -> bytes:
    return _changed(lambda message: message.update({name: value}))


def _without(name: str) -> bytes:
    return _changed(lambda message: message.pop(name))


def malformed() -> dict[str, bytes]:
    """Entries that are not a message for a decoder task, by what is wrong with them. Each has its own bytes."""
    nested = "[" * 100_000 + json.dumps(CANARY) + "]" * 100_000
    return {
        "empty": b"",
        "not JSON": f"{CANARY} {{".encode(),
        "JSON cut short": entry()[:-40],
        "two JSON values": entry() + entry(),
        "a list": json.dumps([CANARY]).encode(),
        "a string": json.dumps(CANARY).encode(),
        "a number": b"12345",
        "null": b"null",
        "a number of 10,000 digits": b"9" * 10_000,
        "not a number": b"NaN",
        "invalid UTF-8": b'{"body": "\xff\xfe\x80' + CANARY.encode() + b'"}',
        "binary": bytes(range(256)) + CANARY.encode(),
        "compressed": gzip.compress(entry()),
        "a pickle": pickle.dumps({"body": CANARY}),
        "deeply nested": nested.encode(),
        "deeply nested body": _field("body", base64.b64encode(nested.encode()).decode()),
        "half a megabyte": json.dumps({"body": CANARY * 15_000}).encode(),
        "an empty object": b"{}",
        "no headers": _without("headers"),
        "headers a list": _field("headers", [CANARY]),
        "no properties": _without("properties"),
        "properties a string": _field("properties", CANARY),
        "no body": _without("body"),
        "body not base64": _field("body", f"{CANARY}~~~"),
        "body not ASCII": _field("body", f"{CANARY}é"),
        "body with bad padding": _field("body", "QQ"),
        "body a number": _field("body", 10**400),
        "body an object": _field("body", {"a": CANARY}),
        "body not JSON": _field("body", base64.b64encode(CANARY.encode()).decode()),
        "body an empty list": _field("body", encoded([])),
        "body of one item": _field("body", encoded([[[str(uuid.uuid4())]]])),
        "body a pickle": _changed(
            lambda message: message.update({"content-type": "application/x-python-serialize", "body": _pickled()})
        ),
        "body of another encoding": _property("body_encoding", CANARY),
        "body compressed": _field("body", base64.b64encode(gzip.compress(CANARY.encode())).decode()),
        "content type YAML": _field("content-type", "application/x-yaml"),
        "content type missing": _without("content-type"),
        "content type a list": _field("content-type", [CANARY]),
        "schema a word": _header("decoder_schema", CANARY),
        "schema of long ago": _header("decoder_schema", -1),
        "no task": _changed(lambda message: message["headers"].pop("task")),
        "unknown task": _header("task", CANARY),
        "task of Celery's own": _header("task", "celery.backend_cleanup"),
        "task a list": _header("task", [CANARY]),
        "task an object": _header("task", {CANARY: 1}),
        "no id": _changed(lambda message: message["headers"].pop("id")),
        "id no UUID": _header("id", CANARY),
        "id a number": _header("id", 7),
        "id in capitals": _header("id", str(uuid.uuid4()).upper()),
        "id with a line break": _header("id", f"{uuid.uuid4()}\n"),
        "arguments an object": entry(args={"ids": CANARY}),
        "arguments a string": entry(args=CANARY),
        "no arguments": entry(args=[]),
        "two arguments": entry(args=[[str(uuid.uuid4())], CANARY]),
        "keywords a list": entry(kwargs=[CANARY]),
        "keywords where none are taken": entry(kwargs={CANARY: 1}),
        "no ids": entry(args=[[]]),
        "ids a string": entry(args=[str(uuid.uuid4())]),
        "ids no UUIDs": entry(args=[[CANARY]]),
        "ids in braces": entry(args=[["{" + str(uuid.uuid4()) + "}"]]),
        "ids numbers": entry(args=[[1, 2, 3]]),
        "ids nested": entry(args=[[[str(uuid.uuid4())]]]),
        "one bad id among good ones": entry(args=[[str(uuid.uuid4()), CANARY]]),
        "257 ids": entry(args=[[str(uuid.uuid4()) for _ in range(257)]]),
        "10,000 ids": entry(args=[[str(uuid.uuid4()) for _ in range(10_000)]]),
    }


def refused() -> dict[str, bytes]:
    """Entries with a task and an id whose request cannot be met: their sender waits for an answer."""
    return {
        "status of no id": entry("decoder.status", args=[CANARY]),
        "status of a list": entry("decoder.status", args=[[str(uuid.uuid4())]]),
        "submit without a URL": entry("decoder.submit", args=[], kwargs={"submitter": CANARY}),
        "submit of a number": entry("decoder.submit", args=[42]),
        "submit of a list": entry("decoder.submit", args=[[CANARY]]),
        "submit with the URL twice": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"url": f"https://docs.example/{CANARY}"}
        ),
        "submit with an unknown option": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"urgency": CANARY}
        ),
        "submit of a priority that is no text": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"priority": 1, "submitter": CANARY}
        ),
        "submit that expires at no number": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"expires": CANARY}
        ),
        "submit that expires at NaN": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"expires": float("nan")}
        ),
        "submit of a submitter that is none": entry(
            "decoder.submit", args=["https://docs.example/"], kwargs={"submitter": 7}
        ),
        "submit without arguments": entry("decoder.submit", args=[]),
        "submit of two arguments": entry("decoder.submit", args=["https://docs.example/", CANARY]),
        "submit with arguments that are none": entry("decoder.submit", args={"url": CANARY}),
        "submit without a body": _asking("decoder.submit", lambda message: message.pop("body")),
        "submit without properties": _asking("decoder.submit", lambda message: message.pop("properties")),
        "submit of a body that is not JSON": _asking("decoder.submit", lambda message: message.update(body="fw==")),
        "submit of a pickle": _asking(
            "decoder.submit",
            lambda message: message.update({"content-type": "application/x-python-serialize", "body": _pickled()}),
        ),
        "status without an id": entry("decoder.status", args=[]),
        "status of two ids": entry("decoder.status", args=[str(uuid.uuid4()), CANARY]),
        "status by keyword": entry("decoder.status", args=[], kwargs={"mission_id": CANARY}),
        "status of a pickle": _asking(
            "decoder.status",
            lambda message: message.update({"content-type": "application/x-python-serialize", "body": _pickled()}),
        ),
    }


def odd() -> dict[str, bytes]:
    """Entries with harmless oddities: the odd parts are dropped, and the task runs."""
    return {
        "time limits that are none": _header("timelimit", CANARY),
        "time limits of one item": _header("timelimit", [1]),
        "an eta that is no time": _header("eta", CANARY),
        "an eta in a thousand years": _header("eta", "3024-01-01T00:00:00+00:00"),
        "expired a thousand years ago": _header("expires", "1024-01-01T00:00:00+00:00"),
        "retries no number": _header("retries", CANARY),
        "retries beyond any": _header("retries", 10**30),
        "a root that is no id": _header("root_id", {CANARY: 1}),
        "a group and a chord": _header("group", CANARY),
        "stamps": _header("stamped_headers", [CANARY]),
        "compression that nobody knows": _header("compression", CANARY),
        "reply to a stranger": _property("reply_to", [CANARY]),
        "a priority that is none": _property("priority", CANARY),
        "a delivery tag that is none": _property("delivery_tag", {CANARY: 1}),
        "delivery info that is none": _property("delivery_info", CANARY),
        "delivery info of another queue": _property("delivery_info", {"exchange": CANARY, "routing_key": CANARY}),
        "a content encoding that nobody knows": _field("content-encoding", CANARY),
        "callbacks": _field(
            "body", encoded([[[str(uuid.uuid4())]], {}, {"callbacks": [{"task": CANARY}], "chord": CANARY}])
        ),
    }
