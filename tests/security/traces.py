"""Canaries, and the search for them in everything that leaves a process, in any encoding."""

from __future__ import annotations

import base64
import codecs
import gzip
import re
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

# Characters that need no escaping and that may start a name.
_ALPHABET = "bcdfghjkmnpqrstvwxz"
_PREFIX_LENGTH = 12


class Canaries:
    """Words that nothing else contains. All of one flock start alike, so that one search finds each of them."""

    def __init__(self) -> None:
        self._prefix = _word(_PREFIX_LENGTH)
        self._labels: dict[str, str] = {}

    def new(self, label: str) -> str:
        """A canary, and the label to report if it is found."""
        word = self._prefix + _word(8)
        self._labels[word] = label
        return word

    def found_in(self, data: bytes) -> set[str]:
        """The labels of the canaries in the data, in clear or encoded; `?` if only the start is known."""
        found: set[str] = set()
        for text in _opened(data):
            lowered = text.lower()
            if any(guise in lowered or guise in text for guise in guises(self._prefix)):
                whole = {
                    label
                    for word, label in self._labels.items()
                    if any(guise in lowered or guise in text for guise in guises(word))
                }
                found |= whole or {"?"}
        return found


def guises(word: str) -> set[bytes]:
    """The forms of a word in data: plain, base64 at each of three offsets, hexadecimal, percent-encoded, UTF-16, escaped."""
    raw = word.encode()
    utf16 = {word.encode("utf-16-le"), word.encode("utf-16-be")}
    percent = "".join(f"%{byte:02x}" for byte in raw).encode()
    escaped = {codecs.escape_encode(text)[0] for text in (*utf16,)}
    return {raw, raw.hex().encode(), percent, *utf16, *escaped, *(_base64_core(text) for text in _shifted(raw, *utf16))}


def _shifted(*texts: bytes) -> Iterator[tuple[bytes, int]]:
    for text in texts:
        yield from ((text, offset) for offset in range(3))


def _base64_core(shifted: tuple[bytes, int]) -> bytes:
    """The part of a text's base64 that does not depend on the text around it, if it begins `offset` bytes into a group."""
    text, offset = shifted
    encoded = base64.b64encode(b"\0" * offset + text)
    whole = (offset + len(text)) // 3 * 4
    return encoded[(offset and 4) : whole]


def _opened(data: bytes) -> Iterator[bytes]:
    """The data, and every gzip and zlib stream in it, unpacked."""
    yield data
    for start in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", data):
        with suppress(zlib.error):
            yield zlib.decompressobj(wbits=47).decompress(data[start.start() :], 64 * 1024 * 1024)


def _word(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Capture:
    """The raw bytes that a server sends after a command; reconnects if the server was away.

    Args:
        url: the server's, password included.
        command: an inline command like `MONITOR` or `PSUBSCRIBE *`.
    """

    def __init__(self, url: str, command: str) -> None:
        self._place = urlsplit(url)
        self._command = command
        self._stopped = threading.Event()
        self._heard = bytearray()
        self._thread = threading.Thread(target=self._listen, name=command, daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def heard(self) -> bytes:
        """Everything received so far."""
        return bytes(self._heard)

    def _listen(self) -> None:
        while not self._stopped.is_set():
            with (
                suppress(ConnectionError),
                socket.create_connection((str(self._place.hostname), self._place.port or 0)) as sock,
            ):
                sock.settimeout(0.1)
                sock.sendall(f"AUTH {self._place.password}\r\n{self._command}\r\n".encode())
                while not self._stopped.is_set():
                    with suppress(TimeoutError):
                        heard = sock.recv(65536)
                        if not heard:
                            break
                        self._heard += heard
            time.sleep(0.01)


def unescaped(text: bytes) -> bytes:
    r"""MONITOR's output, followed by the same output with each `\x00` and `\"` decoded to its byte."""
    return text + re.sub(
        rb'\\(?:x([0-9a-f]{2})|([\\"]))', lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], text
    )


def dump(client: redis.Redis) -> bytes:
    """Every key of the server: its name, what it holds, and its serialised form."""
    answers: list[Any] = []
    plain: Any = client  # redis-py's types are those of every protocol at once
    for key in plain.scan_iter():
        readers = {
            b"string": lambda key=key: plain.get(key),
            b"hash": lambda key=key: plain.hgetall(key),
            b"list": lambda key=key: plain.lrange(key, 0, -1),
            b"set": lambda key=key: plain.smembers(key),
            b"zset": lambda key=key: plain.zrange(key, 0, -1, withscores=True),
            b"stream": lambda key=key: plain.xrange(key),
        }
        answers += [key, readers[plain.type(key)](), plain.dump(key)]
    return b"\n".join(_flat(answers))


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from _flat(list(value.items()))
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _flat(item)
    else:
        yield str(value).encode()


def files(*folders: Path) -> bytes:
    """The names and contents of all files below the folders."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found.append(str(path.relative_to(folder)).encode())
            if path.is_file():
                found.append(path.read_bytes())
    return b"\n".join(found)


def disguised(word: str) -> dict[str, bytes]:
    """A word in each encoding that the search must handle, within other data: the input for tests of the search itself."""
    raw = f"token={word}&more".encode()
    return {
        "plain": raw,
        "upper case": raw.upper(),
        "base64": base64.b64encode(raw),
        "base64, one further": base64.b64encode(b"_" + raw),
        "base64, two further": base64.b64encode(b"__" + raw),
        "base64 for URLs": base64.urlsafe_b64encode(raw),
        "base64 of UTF-16": base64.b64encode(raw.decode().encode("utf-16")),
        "hexadecimal": raw.hex().encode(),
        "hexadecimal capitals": raw.hex().upper().encode(),
        "percent-encoded": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "percent-encoded capitals": "".join(f"%{byte:02X}" for byte in raw).encode(),
        "UTF-16, little end first": raw.decode().encode("utf-16-le"),
        "UTF-16, big end first": raw.decode().encode("utf-16-be"),
        "UTF-16, escaped": codecs.escape_encode(raw.decode().encode("utf-16-le"))[0],
        "gzip": b"\0junk" + gzip.compress(raw) + b"junk",
        "zlib": b"\0junk" + zlib.compress(raw) + b"junk",
        "gzip cut short": gzip.compress(raw + secrets.token_bytes(4096))[:2000],
    }
