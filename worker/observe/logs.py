"""Logs: one JSON object a line on stdout, in the field names of the Elastic Common Schema (`ecs.version` says which).

Log records of other libraries can contain a mission's URL, a header or a message's body, in texts and in exceptions. So only
records of the decoder's own loggers (`decoder.*`) are printed in full; of others, the template and harmless arguments are.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from select import PIPE_BUF
from types import TracebackType
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mission.audit.entry import ECS_VERSION
from mission.cli.console import printable
from mission.errors import DecoderError
from mission.version import VERSION

OWN = "decoder"
HIDDEN = "…"

# Loggers that print a mission's destination; the fetcher itself reports how each attempt ended.
_SILENCED = ("urllib3", "requests", "charset_normalizer")
# Celery logs each message that it receives and finishes: at info, a mission's own line says more.
_PER_MESSAGE = ("celery.worker.strategy", "celery.app.trace")
_MAX_MESSAGE = 8192
_MAX_FRAMES = 30
_MAX_WAITING = 10_000
_FLUSH_SECONDS = 5.0
# Waking the writer for each line would cost more than the line.
_GATHER_SECONDS = 0.02
_MAX_CHAIN = 5

# The attribute of a record with the mission of the thread that logged it.
_CONTEXT = "_mission"
_mission: ContextVar[Mapping[str, Any] | None] = ContextVar("mission", default=None)


@contextmanager
def mission_context(mission_id: str, attempt: int, submitter: str) -> Iterator[None]:
    """Put the mission's id, attempt and submitter on every line that this thread logs within the block."""
    fields = {"mission.id": mission_id, "mission.attempt": attempt, "mission.submitter": submitter}
    token = _mission.set(fields)
    try:
        yield
    finally:
        _mission.reset(token)


def add_to_mission_context(name: str, value: str) -> None:
    """Add a field to the lines that this thread logs from now to the end of its mission's block."""
    _mission.set({**(_mission.get() or {}), name: value})


def configure(level: str, fmt: str, stream: TextIO | None = None, *, threads: bool = True) -> None:
    """Send every log record of the process to `stream` (stdout), and unhandled exceptions with them. May be called again.

    Args:
        level: `debug`, `info`, `warning` or `error`; libraries log from `info` up.
        fmt: `json`, or `text` for people.
        stream: the destination; a write that fails is dropped, and never ends the process.
        threads: whether a thread writes; a process that will fork must not have one.
    """
    stream = sys.stdout if stream is None else stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    handler = _Writer(stream) if threads else logging.StreamHandler(stream)
    handler.setFormatter(EcsFormatter() if fmt == "json" else PlainFormatter())
    handler.addFilter(_heard)
    root = logging.getLogger()
    for former in root.handlers:
        if isinstance(former, _Writer):
            former.close()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _PER_MESSAGE:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    # Otherwise a failing handler prints the record's arguments to stderr.
    logging.raiseExceptions = False
    # Python's own hooks print an exception's text; Python documents assignment as the way to replace them.
    sys.excepthook = _log_unhandled
    threading.excepthook = lambda args: _log_unhandled(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_unhandled(args.exc_type, args.exc_value, args.exc_traceback)


class _Writer(logging.Handler):
    """Writes all waiting lines at once, from its own thread.

    That thread also formats the decoder's own records. Foreign records, and those with an exception, are formatted at once: their
    content may change. A write releases the interpreter: with a lock held during it, as in `StreamHandler`, all threads wait whenever
    the kernel runs another process meanwhile, or the reader of stdout is slow. `flush`, and so `logging.shutdown`, waits for
    pending lines; a process that is killed loses them.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: SimpleQueue[str | logging.LogRecord | threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; wait only if very many are pending."""
        if _own(record) and record.exc_info is None:
            vars(record)[_CONTEXT] = _mission.get()
            self._waiting.put(record)
        else:
            self._waiting.put(self._line(record))
        if self._waiting.qsize() > _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Wait until all pending lines are written, at most `_FLUSH_SECONDS`."""
        written = threading.Event()
        self._waiting.put(written)
        if self._thread.is_alive():
            written.wait(_FLUSH_SECONDS)

    def close(self) -> None:
        """Write the pending lines and end the thread."""
        self._waiting.put(None)
        self._thread.join(_FLUSH_SECONDS)
        super().close()

    def _write(self) -> None:
        while True:
            items = [self._waiting.get()]
            if isinstance(items[0], str | logging.LogRecord):
                time.sleep(_GATHER_SECONDS)
            with suppress(Empty):
                while len(items) < _MAX_WAITING:
                    items.append(self._waiting.get_nowait())
            lines = [self._line(item) if isinstance(item, logging.LogRecord) else item for item in items]
            with suppress(OSError, ValueError):  # stdout has no reader left, or is closed
                for piece in _pieces(line for line in lines if isinstance(line, str)):
                    self._stream.write(piece)
                    self._stream.flush()
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()
            if None in items:
                return

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception:  # noqa: BLE001 (no record may end the work, whatever it contains)
            self.handleError(record)
            return ""


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join as many lines as a pipe writes atomically: other processes may write to it as well (pipe(7), PIPE_BUF)."""
    piece, size = "", 0
    for line in lines:
        # The text format may contain characters beyond ASCII.
        more = len(line) if line.isascii() else len(line.encode(errors="backslashreplace"))
        if piece and size + more > PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece, size = piece + line, size + more
    yield piece


class EcsFormatter(JsonFormatter):
    """A record as one line of JSON. Control characters and those beyond ASCII are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The schema's fields first, then those of the mission, of the record's `extra` and of its exception."""
        return self.serialize_log_record(
            {
                "@timestamp": _timestamp(record),
                "log.level": record.levelname.lower(),
                "message": _message(record),
                "ecs.version": ECS_VERSION,
                "log.logger": record.name,
                "service.name": OWN,
                "service.version": VERSION,
                "process.pid": record.process,
                "process.thread.name": record.threadName,
                **_fields(record),
            }
        )


class PlainFormatter(logging.Formatter):
    """A record as one line for people, with the same content."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, then the other fields as `name=value`."""
        rest = "".join(f"  {name}={value}" for name, value in _fields(record).items())
        return printable(f"{_timestamp(record)} {record.levelname:<8} {record.name}: {_message(record)}{rest}")


def _heard(record: logging.LogRecord) -> bool:
    if _own(record):
        return True
    return record.levelno >= logging.INFO and record.name.partition(".")[0] not in _SILENCED


def _own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == OWN


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    mission = vars(record).get(_CONTEXT) or _mission.get() or {}
    return {**mission, **_extra(record), **_error(record)}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """The `extra` fields of the decoder's own records; Celery's contain a task's arguments."""
    if not _own(record):
        return {}
    return {name: value for name, value in vars(record).items() if name not in _RESERVED}


_RESERVED = frozenset(RESERVED_ATTRS) | {"message", "asctime", _CONTEXT}


def _message(record: logging.LogRecord) -> str:
    text = str(record.msg)
    if record.args:
        # If they do not fit, the template itself still says what happened.
        with suppress(TypeError, ValueError, KeyError):
            text %= record.args if _own(record) else _harmless_args(record.args)
    return (text if _own(record) else _URL.sub(rf"\1{HIDDEN}", text))[:_MAX_MESSAGE]


_URL = re.compile(r"(?i)\b(https?:/)/\S*")
# Broker addresses (kombu masks their password), and single words such as ids, hosts, task names.
_HARMLESS = re.compile(r"(?:rediss?|(?:rediss\+)?sentinel)://\S{0,200}|[\w.@-]{1,80}")
# The keys under which Celery logs a task's name and outcome; other keys hold its arguments, result or exception.
_HARMLESS_KEYS = ("id", "name", "description", "runtime", "hostname")


def _harmless_args(args: object) -> Any:
    if isinstance(args, Mapping):
        return {key: value if key in _HARMLESS_KEYS else _harmless(value) for key, value in args.items()}
    return tuple(map(_harmless, args if isinstance(args, tuple) else (args,)))


def _harmless(value: object) -> object:
    if isinstance(value, int | float):
        return value
    if isinstance(value, BaseException):
        return _Shown(_told(value))
    return _Shown(value if isinstance(value, str) and _HARMLESS.fullmatch(value) else HIDDEN)


class _Shown(str):
    """Text that `%r` shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _told(error: BaseException) -> str:
    """An exception's type, and its text if that cannot contain data of a mission."""
    if isinstance(error, DecoderError | RedisConnectionError | RedisTimeoutError):
        return f"{_type_name(error)}: {error}"
    return _type_name(error)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _error(record: logging.LogRecord) -> dict[str, Any]:
    """Type and stack of the record's exception: no values of variables, and the text only of the decoder's own errors."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is None:
        return {}
    fields = {"error.type": _type_name(error)}
    if isinstance(error, DecoderError):
        fields["error.message"] = str(error)
    return fields | {"error.stack_trace": "\n".join(_stack(error))}


def _stack(error: BaseException) -> list[str]:
    """The chain of exceptions, the last one first: type, then frames as `file:line function`, the innermost last."""
    lines: list[str] = []
    link: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if link is None:
            break
        lines += [_told(link), *_frames(link.__traceback__)]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return lines


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"  {code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-_MAX_FRAMES:]


def _log_unhandled(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    error = error or kind()
    logging.getLogger(OWN).critical("unhandled exception", exc_info=(kind, error, traceback))
