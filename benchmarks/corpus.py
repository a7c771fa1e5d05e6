"""Test documents for extraction: text that every Python installation has, with invented credentials."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import cycle
from pathlib import Path

KINDS = ("source", "JSON", "logs", "minified JS", "HTML")
# The most bytes of a document, and the bytes of text per credential.
LARGEST = 256 * 1024
RATE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A document as bytes and as a file, with the credentials planted in it."""

    kind: str
    body: bytes
    file: Path
    planted: frozenset[str]


def corpus(folder: Path, size: int) -> Iterator[Document]:
    """About `size` bytes of text in equal shares of each kind, always the same on one machine, with one credential per `RATE` bytes.

    If Python and its packages have too little text of a kind, the text is repeated. Source code, marked up as pages, fills up the HTML.
    """
    some = random.Random(14)
    for kind in KINDS:
        texts, left = cycle(_texts(kind)), size // len(KINDS)
        for number, text in enumerate(texts):
            text, planted = _planted(text[:LARGEST], ";" if kind == "minified JS" else "\n", some)
            body = text.encode()
            file = folder / f"{kind}-{number}{'.py' if kind == 'source' else '.txt'}"
            file.write_bytes(body)
            yield Document(kind, body, file, planted)
            left -= len(body)
            if left <= 0:
                break


def _texts(kind: str) -> Iterator[str]:
    match kind:
        case "source":
            yield from _files(".py")
        case "JSON":
            yield from _files(".json")
        case "minified JS":
            for text in _files(".js"):
                yield "".join(line.strip() for line in text.splitlines())
        case "HTML":
            yield from _files(".html")
            for text in _files(".py"):
                lines = (f'<a id="L{at}"></a>{escape(line)}' for at, line in enumerate(text.splitlines(), 1))
                yield "<!doctype html><title>source</title><pre>" + "\n".join(lines) + "</pre>"
        case "logs":
            some = random.Random(2)
            while True:
                yield "".join(_log_line(number, some) for number in range(LARGEST // 180))


def _files(suffix: str) -> Iterator[str]:
    roots = {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    files = sorted({file for root in roots for file in Path(root).rglob(f"*{suffix}") if file.is_file()})
    random.Random(1).shuffle(files)
    for file in files:
        if text := file.read_text(encoding="utf-8", errors="replace"):
            yield text


def _log_line(number: int, some: random.Random) -> str:
    address = ".".join(str(some.randrange(256)) for _ in range(4))
    path = "/".join(some.choices(("api", "v1", "orders", "users", "static", "login", "cart"), k=3))
    return (
        f"2026-07-{some.randrange(1, 32):02}T12:{number % 60:02}:{some.random() * 60:09.6f}Z INFO gateway[{number}] {address} "
        f'"GET /{path}/{some.getrandbits(64):016x}?page={some.randrange(99)} HTTP/1.1" {some.choice((200, 304, 404))} '
        f"{some.randrange(50_000)} trace={some.getrandbits(128):032x} took={some.random():.3f}s\n"
    )


def _planted(text: str, end: str, some: random.Random) -> tuple[str, frozenset[str]]:
    """A text with invented credentials of the right shape, each in its own statement."""
    pieces: list[str] = []
    start, planted, count = 0, [], int(len(text) / RATE + some.random())
    for wish in sorted(some.randrange(len(text)) for _ in range(count)):
        at = text.find(end, max(start, wish)) + 1 or len(text)
        name, value = _credential(some)
        pieces += text[start:at], f'{end}{name} = "{value}"{end}'
        planted.append(value)
        start = at
    return "".join([*pieces, text[start:]]), frozenset(planted)


def _credential(some: random.Random) -> tuple[str, str]:
    def drawn(count: int, characters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") -> str:
        return "".join(some.choices(characters, k=count))

    digits = "0123456789"
    return some.choice(
        (
            ("slack_token", "-".join(("xoxb", drawn(12, digits), drawn(13, digits), drawn(24)))),
            ("stripe_key", f"sk_{'live'}_{drawn(24)}"),
            ("aws_secret_access_key", drawn(40)),
            ("db_password", f"{drawn(5)}-{drawn(3, digits)}{drawn(4)}"),
        )
    )
