"""Keys as one line of text that names what it is, and the files that hold them.

A line is `KIND:LABEL:MATERIAL`: the kind says who may see it, the label which algorithm reads it, the material
is base64url without padding (RFC 4648, section 5). A key file holds one such line; blank lines and lines that
start with `#` do not count.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from mission.errors import DecoderError, KeyFormatError
from mission.files import distrust, open_to_others

# A hybrid public key's line is about 1.7 kB; nothing that is a key file comes near this.
MAX_FILE_BYTES = 64 * 1024


class Kind(StrEnum):
    """What a key line is: its first word. Beside it the noun for it, and the permission bits that its file must not have.

    An identity is its owner's alone. A URL key may be read by a group: Kubernetes mounts a Secret as 0440 for the pod's
    fsGroup. A recipient is public, but not for everybody to change (`mission.files`).
    """

    noun: str
    forbidden_mode: int

    def __new__(cls, word: str, noun: str = "", forbidden_mode: int = 0) -> Self:
        """A kind, whose value is the word alone."""
        kind = str.__new__(cls, word)
        kind._value_, kind.noun, kind.forbidden_mode = word, noun, forbidden_mode
        return kind

    RECIPIENT = "decoder-recipient", "a recipient (public key)", 0
    IDENTITY = "decoder-identity", "an identity (private key)", 0o077
    URL_KEY = "decoder-url-key", "a URL key", 0o007


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key line taken apart. Its repr does not show the material."""

    kind: Kind
    label: str
    material: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The line, without a newline."""
        encoded = base64.urlsafe_b64encode(self.material).rstrip(b"=").decode()
        return f"{self.kind.value}:{self.label}:{encoded}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a line of any kind apart.

        Raises:
            KeyFormatError: it is not a key line; the text is not repeated.
        """
        kind, label, encoded = [*text.strip().split(":"), "", "", ""][:3]
        if text.count(":") != 2 or kind not in set(Kind):
            raise KeyFormatError(f"not a key: expected one line that starts with {', '.join(Kind)}")
        return cls(Kind(kind), label, _decode(encoded, Kind(kind)))


def _decode(encoded: str, kind: Kind) -> bytes:
    try:
        material = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise KeyFormatError(f"{kind.noun} is damaged: its third part is not base64url") from None
    # One key, one text: unused low bits or padding in the text would give it a second one.
    if base64.urlsafe_b64encode(material).rstrip(b"=").decode() != encoded:
        raise KeyFormatError(f"{kind.noun} is damaged: its third part is not base64url without padding")
    return material


def read_key_file(path: Path) -> KeyLine:
    """The one key that a file holds, of whatever kind.

    Raises:
        KeyFormatError: there is no such file, it holds no key or several, or it is open to others, a public key to their changes.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            problem = distrust(path, file.fileno())
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFormatError(f"cannot read the key file {path}: {error.strerror}") from None
    try:
        lines = [line for line in content.decode().splitlines() if line.strip() and not line.startswith("#")]
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or len(content) > MAX_FILE_BYTES:
        raise KeyFormatError(f"{path} is not a key file: expected exactly one line that holds a key")
    try:
        key = KeyLine.parse(lines[0])
    except KeyFormatError as error:
        raise KeyFormatError(f"{path}: {error}") from None
    if problem := open_to_others(path, mode, key.kind.noun, key.kind.forbidden_mode) or problem:
        raise KeyFormatError(problem)
    return key


def load_key(kind: Kind, value: str) -> KeyLine:
    """A key given inline or as the name of a file.

    Raises:
        KeyFormatError: it is neither, or of another kind. A value that names no file is not repeated: it may be
            a key whose first word was lost.
    """
    value = value.strip()
    if value.partition(":")[0] in set(Kind):
        line = KeyLine.parse(value)
        if line.kind is not kind:
            raise KeyFormatError(f"expected {kind.noun}, a line that starts with {kind.value}:, got {line.kind.noun}")
        return line
    # Path's own ways raise for a user that is not there, and for what is too long for a name.
    file = os.path.expanduser(value)
    if not os.path.exists(file):
        raise KeyFormatError(
            f"expected {kind.noun}: a line that starts with {kind.value}:, or the name of a file that holds it (no such file; `decoder keys generate` makes one)"
        )
    return expect_file(kind, Path(file))


def expect_file(kind: Kind, path: Path) -> KeyLine:
    """The key of this kind that a file holds.

    Raises:
        KeyFormatError: see `read_key_file`; or it is of another kind.
    """
    line = read_key_file(path)
    if line.kind is not kind:
        raise KeyFormatError(f"{path}: expected {kind.noun}, got {line.kind.noun}")
    return line


def already_there(path: Path) -> DecoderError:
    """The refusal to overwrite a key file."""
    return DecoderError(f"{path} is there already: key files are never overwritten; name another, or move it away")


def write_key_file(path: Path, line: KeyLine) -> None:
    """Write a new key file: mode 0600, a recipient's 0644. What is there already is never overwritten.

    Raises:
        DecoderError: the file is there, or cannot be written.
    """
    mode = 0o644 if line.kind is Kind.RECIPIENT else 0o600
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise already_there(path) from None
    except OSError as error:
        raise DecoderError(f"cannot write the key file {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(line.text + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key is worse than none
        raise DecoderError(f"cannot write the key file {path}: {error.strerror}") from None
