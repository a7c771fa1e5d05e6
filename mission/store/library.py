"""The library of Redis functions: each file of `lua/` is a function `decoder_NAME`. The deployer's login loads them.

So the other logins need no right to load scripts: each may only call the functions that its work needs.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from importlib.resources import files

import redis

from mission.errors import DecoderError
from mission.store.names import ENDED, QUEUE_OF, Key

# The version of the functions' code, stored in the library. A release that changes the code of a file under `lua/` raises it.
# A release also serves the last one: a function that the last release calls keeps its name, arguments and answers for one more
# release. So a rollback by one release leaves the newer library on the server, and works.
LIBRARY = 2

# How many of the newest outcomes are kept. Each takes about 100 bytes in Redis.
MOST_OUTCOMES = 1_000_000

# The first Redis version with functions. Every Valkey reports a newer one.
OLDEST = "7.0"

NAME = "decoder"
REMEDY = "run `decoder migrate` with the deployer's login"
_NUMBER = re.compile(rf"#!lua name={NAME}\n-- The decoder's library number (\d+)\n")

# When its memory is full, Redis refuses all functions but these before they start. They end, release or delete missions, or only read.
_EVEN_WHEN_FULL = ("audit_trim", "cancel", "commit", "discard", "forget", "host", "hosts", "mend", "release")
_FLAGS = dict.fromkeys(_EVEN_WHEN_FULL, "'allow-oom'") | {"stats": "'no-writes'"}


class Loaded(StrEnum):
    """What `load` did."""

    LOADED = "loaded"  # there was no library
    REPLACED = "replaced"  # there was an older one, or one with the same number and another text
    KEPT = "kept"  # it was already there
    NEWER = "newer"  # a newer release's library is there, and stays


def too_old(version: str) -> bool:
    """Whether a server with this `redis_version` lacks functions."""
    return [int(part) for part in version.split(".")[:2]] < [int(part) for part in OLDEST.split(".")]


def function_name(script: str) -> str:
    """The name to pass to `FCALL` for the file NAME.lua."""
    return f"{NAME}_{script}"


def load(client: redis.Redis) -> Loaded:
    """Load this release's functions, unless the server holds those of a newer release.

    The login needs FUNCTION LOAD and FUNCTION LIST.

    Raises:
        DecoderError: the server has a library of that name that is not the decoder's.
        redis.RedisError: Redis does not answer, or refuses.
    """
    code = stored(client)
    if code == source():
        return Loaded.KEPT
    if code is not None:
        number = _NUMBER.match(code)
        if number is None:
            raise DecoderError(
                f"the server has a library {NAME!r} that is not the decoder's: if nobody needs it, delete it with FUNCTION DELETE"
            )
        if int(number[1]) > LIBRARY:
            return Loaded.NEWER
    client.function_load(source(), replace=True)
    return Loaded.LOADED if code is None else Loaded.REPLACED


def number(client: redis.Redis) -> int | None:
    """The number of the library on the server, None if there is none. The login needs no right to read its text.

    Raises:
        redis.RedisError: Redis does not answer, or refuses.
    """
    try:
        return int(client.fcall(function_name("library"), 0))
    except redis.ResponseError as error:
        if not_found(error):
            return None
        raise


def not_found(error: redis.ResponseError) -> bool:
    """Whether Redis reports that it has no such function."""
    return "Function not found" in str(error)


def stored(client: redis.Redis) -> str | None:
    """The text of the library on the server; None if there is none."""
    found = client.function_list(NAME, withcode=True)
    if not found:
        return None
    # RESP2 answers with a list of names and values, RESP3 with a map.
    item = found[0]
    fields = item if isinstance(item, dict) else dict(zip(item[::2], item[1::2], strict=True))
    return str(fields[b"library_code"].decode())


@cache
def source() -> str:
    """The library's text.

    Each file is the body of a function. The names of the keys and `common.lua` come once before them.
    """
    folder = files("mission.store") / "lua"
    texts = {file.name[:-4]: file.read_text() for file in folder.iterdir() if file.name.endswith(".lua")}
    common = texts.pop("common")
    parts = [f"#!lua name={NAME}\n-- The decoder's library number {LIBRARY}\n"]
    parts += (f"local {key.name} = '{key}'\n" for key in Key)
    queues = ", ".join(f"{priority} = '{queue}'" for priority, queue in QUEUE_OF.items())
    parts.append(f"local MESSAGES_OF, ENDED, MOST_OUTCOMES = {{{queues}}}, '{ENDED}', {MOST_OUTCOMES}\n{common}")
    parts.append(_register("library", f"return {LIBRARY}\n", "'no-writes', 'allow-oom', 'allow-stale'"))
    for name, text in sorted(texts.items()):
        parts.append(_register(name, f"read_clock()\n{text}", _FLAGS.get(name, "")))
    return "".join(parts)


def _register(name: str, body: str, flags: str) -> str:
    return (
        f"\nredis.register_function{{function_name = '{function_name(name)}', flags = {{{flags}}}, "
        f"callback = function(KEYS, ARGV)\n{body}end}}\n"
    )
