"""Keys as one self-describing line of text, and the files that hold them.

A line is `KIND:LABEL:MATERIAL`: the kind says who may see it, the label which algorithm uses it, and the material
is base64url without padding (RFC 4648, section 5). A key file holds one such line; blank lines and lines that
start with `#` are ignored.
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

# A hybrid public key's line is about 1.7 kB; no key file comes near this size.
MAX_FILE_BYTES = 64 * 1024


class Kind(StrEnum):
    """The kind of a key line: its first word, with a noun for messages and the permission bits that its file must not have.

    Only its owner may read an identity. A group may read a URL key: Kubernetes mounts a Secret as 0440 for the pod's
    fsGroup. A recipient is public, but must not be writable by every user (`mission.files`).
    """

    noun: str
    forbidden_mode: int

    def __new__(cls, word: str, noun: str = "", forbidden_mode: int = 0) -> Self:
        """A kind; its value is only the word."""
        kind = str.__new__(cls, word)
        kind._value_, kind.noun, kind.forbidden_mode = word, noun, forbidden_mode
        return kind

    RECIPIENT = "decoder-recipient", "a recipient (public key)", 0
    IDENTITY = "decoder-identity", "an identity (private key)", 0o077
    URL_KEY = "decoder-url-key", "a URL key", 0o007


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A parsed key line. Its repr does not show the material."""

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
        """Parse a line of any kind.

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
    # Each key has one text: unused low bits or padding would allow a second one.
    if base64.urlsafe_b64encode(material).rstrip(b"=").decode() != encoded:
        raise KeyFormatError(f"{kind.noun} is damaged: its third part is not base64url without padding")
    return material


def read_key_file(path: Path) -> KeyLine:
    """The single key in a file, of any kind.

    Raises:
        KeyFormatError: the file is missing, does not hold exactly one key, or others may read it (a public key: write to it).
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
    """A key given inline or as a file name.

    Raises:
        KeyFormatError: it is neither, or of another kind. The text does not repeat a value that names no file: it may
            be a key without its first word.
    """
    value = value.strip()
    if value.partition(":")[0] in set(Kind):
        line = KeyLine.parse(value)
        if line.kind is not kind:
            raise KeyFormatError(f"expected {kind.noun}, a line that starts with {kind.value}:, got {line.kind.noun}")
        return line
    # The methods of Path raise for an unknown user and for a name that is too long.
    file = os.path.expanduser(value)
    if not os.path.exists(file):
        raise KeyFormatError(
            f"expected {kind.noun}: a line that starts with {kind.value}:, or the name of a file that holds it (no such file; `decoder keys generate` creates one)"
        )
    return expect_file(kind, Path(file))


def expect_file(kind: Kind, path: Path) -> KeyLine:
    """The key in a file, which must be of this kind.

    Raises:
        KeyFormatError: as for `read_key_file`, or the key is of another kind.
    """
    line = read_key_file(path)
    if line.kind is not kind:
        raise KeyFormatError(f"{path}: expected {kind.noun}, got {line.kind.noun}")
    return line


def already_there(path: Path) -> DecoderError:
    """The refusal to overwrite a key file."""
    return DecoderError(f"{path} already exists: key files are never overwritten; choose another name, or move it away")


def write_key_file(path: Path, line: KeyLine) -> None:
    """Write a new key file: mode 0600, a recipient's 0644. An existing file is never overwritten.

    Raises:
        DecoderError: the file exists, or cannot be written.
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
