"""The library of Redis functions: the files of `lua/`, each a function `decoder_NAME`, loaded by whoever deploys.

A login needs no script of its own so: it may call the functions that its work needs, and load none.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from importlib.resources import files

import redis

from mission.errors import DecoderError
from mission.store.names import ENDED, QUEUE_OF, Key

# The number of the functions' arguments and answers, stored in the library. A change of a file under `lua/` that a release brings
# brings a new number. A release also serves the one before: a function that the last release calls keeps its name, its arguments and its
# answers for one release more. So a rollback by one release leaves the newer library in its place, and works.
LIBRARY = 2

# So many of the newest outcomes are kept, each some 100 bytes of Redis.
MOST_OUTCOMES = 1_000_000

# The first Redis that has functions; each Valkey tells that it is as good as a newer one.
OLDEST = "7.0"

NAME = "decoder"
REMEDY = "run `decoder migrate` with the deployer's login"
_NUMBER = re.compile(rf"#!lua name={NAME}\n-- The decoder's library number (\d+)\n")

# A full Redis refuses every other function before it begins. These end missions, give way or delete; or only read.
_EVEN_WHEN_FULL = ("audit_trim", "cancel", "commit", "discard", "forget", "host", "hosts", "mend", "release")
_FLAGS = dict.fromkeys(_EVEN_WHEN_FULL, "'allow-oom'") | {"stats": "'no-writes'"}


class Loaded(StrEnum):
    """What `load` did."""

    LOADED = "loaded"  # there was none
    REPLACED = "replaced"  # an older one, or another text of the same number
    KEPT = "kept"  # it is there
    NEWER = "newer"  # one of a newer release is there, and stays


def too_old(version: str) -> bool:
    """Whether a server of this `redis_version` has no functions."""
    return [int(part) for part in version.split(".")[:2]] < [int(part) for part in OLDEST.split(".")]


def function_name(script: str) -> str:
    """The name that `FCALL` takes for the file NAME.lua."""
    return f"{NAME}_{script}"


def load(client: redis.Redis) -> Loaded:
    """Have the server hold this release's functions, or those of a newer one.

    The login needs FUNCTION LOAD and FUNCTION LIST.

    Raises:
        DecoderError: a library of that name is there that is not the decoder's.
        redis.RedisError: Redis does not answer, or refuses.
    """
    code = stored(client)
    if code == source():
        return Loaded.KEPT
    if code is not None:
        number = _NUMBER.match(code)
        if number is None:
            raise DecoderError(
                f"the server has a library {NAME!r} that is not the decoder's: FUNCTION DELETE it, if nobody needs it"
            )
        if int(number[1]) > LIBRARY:
            return Loaded.NEWER
    client.function_load(source(), replace=True)
    return Loaded.LOADED if code is None else Loaded.REPLACED


def number(client: redis.Redis) -> int | None:
    """The number of the functions on the server, None where there are none. The login needs no right to look at their text.

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
    """Whether Redis says that it has no such function."""
    return "Function not found" in str(error)


def stored(client: redis.Redis) -> str | None:
    """The text of the library on the server; None where there is none."""
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

    Each file is the body of a function. The names of the keys and `common.lua` stand once in front.
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
