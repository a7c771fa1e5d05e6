"""The labelled documents: files as people write them, with made-up credentials put in when they are read.

In a file, `{{.kind}}` stands for a credential, and `{{.no.kind}}` for a value that only looks like one. Each is replaced by a value of
that kind, the same in every run. So no file holds a credential, and the labels cannot drift from the text. `{{.say.word}}` is a plain
word that this repository's own scan for secrets would report.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENTS = Path(__file__).parent / "documents"
HALVES = ("seen", "held_out")
_SLOT = re.compile(r"\{\{\.(?:say\.(\w+)|(no\.)?(base64|apr1|sha512crypt|[A-Za-z]+)(?:_(\w+))?)\}\}")
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aio"]
_WORDS = [
    *("winter", "summer", "dragon", "coffee", "monkey", "purple", "harbor", "falcon"),
    *("marble", "tiger", "rocket", "garden", "silver", "pepper", "canyon", "velvet"),
]
_BASE64 = string.ascii_letters + string.digits + "+/"


@dataclass(frozen=True, slots=True)
class Label:
    """A credential that a document holds: its line, from 1, its kind and its value."""

    line: int
    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Document:
    """One labelled document; every line without a label holds no credential."""

    name: str
    text: str
    labels: tuple[Label, ...]


def documents(half: str) -> Iterator[Document]:
    """Of `seen`, which the rules are tuned on, or of `held_out`, which they are not."""
    for path in sorted((DOCUMENTS / half).iterdir()):
        yield _filled(path.name.removesuffix(".txt"), path.read_text(encoding="utf-8"))


def _filled(name: str, template: str) -> Document:
    numbers = random.Random(name)
    labels: list[Label] = []
    lines: list[str] = []
    for line, text in enumerate(template.split("\n"), 1):

        def value(match: re.Match[str], line: int = line) -> str:
            said, harmless, kind, size = match.groups()
            if said:
                return said
            filled = _value(kind, size, numbers)
            if not harmless:
                labels.append(Label(line, kind, filled))
            return filled

        lines.append(_SLOT.sub(value, text))
    return Document(name, "\n".join(lines), tuple(labels))


def _value(kind: str, size: str | None, numbers: random.Random) -> str:
    def some(letters: str, length: int) -> str:
        return "".join(numbers.choice(letters) for _ in range(length))

    length = int(size) if size and size.isdigit() else 0
    alphanumeric = string.ascii_letters + string.digits
    match kind:
        case "password":
            return _password(numbers)
        case "plain":  # valid in a URL or a connection string without escaping
            return some(alphanumeric, numbers.randint(8, 16)) + some(string.digits, 1) + some(string.ascii_letters, 1)
        case "word":
            return numbers.choice(_WORDS) + numbers.choice(_WORDS).title()
        case "hex":
            return some("0123456789abcdef", length)
        case "HEX":
            return some("0123456789ABCDEF", length)
        case "alnum":
            return some(alphanumeric, length)
        case "digits":
            return some("123456789", 1) + some(string.digits, length - 1)
        case "lower":
            return some(string.ascii_lowercase + string.digits, length)
        case "letters":
            return some(string.ascii_letters, length)
        case "upper":
            return some(string.ascii_uppercase + string.digits, length)
        case "punct":
            return some(alphanumeric + "!@#$%^&*()-_ []{}<>~`+=,.;:/?|", length)
        case "base64":  # padded, as most are
            pad = "=" * (length % 4 == 0)
            return some(_BASE64, length - len(pad)) + pad
        case "uuid":
            return "-".join(some("0123456789abcdef", part) for part in (8, 4, 4, 4, 12))
        case "azure":
            return some(alphanumeric, 3) + "8Q~" + some(alphanumeric + "_~.-", 34)
        case "aws":
            return "AKIA" + some(string.ascii_uppercase + "234567", 16) if size == "id" else some(_BASE64, 40)
        case "jwt":
            head, claims = (
                base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": some(string.digits, 10), "iat": 1709287203})
            )
            return f"{head}.{claims}.{some(alphanumeric + '_-', 43)}"
        case "basic":
            pair = f"{numbers.choice(_WORDS)}:{_password(numbers)}"
            return pair if size == "plain" else base64.b64encode(pair.encode()).decode()
        case "bcrypt":
            return "$2y$10$" + some(alphanumeric + "./", 53)
        case "apr1":
            return "$apr1$" + some(alphanumeric, 8) + "$" + some(alphanumeric + "./", 22)
        case "sha512crypt":
            return "$6$" + some(alphanumeric, 16) + "$" + some(alphanumeric + "./", 86)
        case "pem":
            return "MII" + some(_BASE64, 1200) + "=="
        case _:
            raise AssertionError(kind)


def _password(numbers: random.Random) -> str:
    """Passwords as people and password managers choose them."""
    word, other = numbers.choice(_WORDS), numbers.choice(_WORDS)
    mark = numbers.choice("!@#$%*-_.+")
    digits = str(numbers.randint(1, 2030))
    name = "".join(numbers.choice(_SYLLABLES) for _ in range(3)).title()
    mixed = "".join(
        numbers.choice(string.ascii_letters + string.digits + "!@#%^*-_+=?") for _ in range(numbers.randint(9, 18))
    )
    return numbers.choice(
        (
            f"{word.title()}{digits}{mark}",
            f"{name}{digits}",
            f"{word}{mark}{other}{digits}",
            f"{word.replace('o', '0').replace('e', '3').replace('a', '@')}{numbers.randint(10, 99)}{mark}",
            f"{name}{mark}{word}",  # no digit
            f"{mixed}7a",
            f"{mixed}x4",
            f"{word[:3]}{digits}{name}",
        )
    )
