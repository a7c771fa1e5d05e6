"""Reads a pack's file as text, with a size limit and clear errors."""

from __future__ import annotations

import re
from pathlib import Path

from worker.extract.packs.model import PackRefused, Problem

# The largest public pack has 0.5 MB.
MAX_BYTES = 8 * 1024 * 1024
# Valid in `pack:NAME` and in the engine's ids.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def name_of(file: Path) -> str:
    """The pack's name: the file's name without the extension and leading dots.

    Raises:
        PackRefused: a detector's name cannot contain one of its characters, or it is empty or too long.
    """
    name = file.name.lstrip(".")
    name = name.rpartition(".")[0] or name
    if not _NAME.fullmatch(name):
        raise refused(file, "a pack is named after its file: up to 64 letters, digits, dots, hyphens and underscores")
    return name


def read(file: Path) -> str:
    """The text of a pack.

    Raises:
        PackRefused: the file is missing, unreadable, not regular, larger than `MAX_BYTES`, empty, or not UTF-8.
    """
    try:
        if file.exists() and not file.is_file():  # opening a pipe without a writer would block forever
            raise refused(file, "is not a regular file", None)
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refused(file, f"cannot be read: {getattr(error, 'strerror', None) or error}", None) from None
    if len(raw) > MAX_BYTES:
        raise refused(file, f"is larger than {MAX_BYTES // 1024**2} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refused(file, f"is not UTF-8 (byte {error.start})", line) from None
    if not text.strip():
        raise refused(file, "is empty")
    return text


def refused(file: Path, reason: str, line: int | None = 1) -> PackRefused:
    """The error for a problem of a whole file; `line` is None if the file was not read."""
    return PackRefused([Problem(file, line, "", reason)])
