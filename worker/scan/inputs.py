"""The inputs of a scan: named files, files of folders, standard input. Skipped inputs are counted by reason."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from worker.extract.archives import is_archive, looks_like_text
from worker.scan.ignored import Ignored, repository

STDIN = "-"
MAX_BYTES = 1024**3
# The reasons for skipping something in a folder, as printed.
BINARY, IGNORED, LINK, SPECIAL = "binary files", "by .gitignore", "symbolic links", "not regular files"


class Unreadable(Exception):
    """An input that cannot be searched; the text says why."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file to search, or standard input.

    Attributes:
        name: as given on the command line, or below a folder given there.
        walked: whether it was found in a folder, not named itself.
    """

    name: str
    walked: bool = False


class Inputs:
    """All files of the given names. The files of a folder come in the order of their names, before those of its subfolders.

    Args:
        names: files and folders, or `-`.
        failed: called with the name of a folder that cannot be read, and the reason.
        but: files to skip in folders, by device and inode: those that the search itself writes and reads.
    """

    def __init__(
        self, names: Sequence[str], failed: Callable[[str, str], None], but: frozenset[tuple[int, int]] = frozenset()
    ) -> None:
        self._names = names
        self._failed = failed
        self._but = but
        self.skipped: Counter[str] = Counter()
        self._base = _base(names)

    def __iter__(self) -> Iterator[Input]:
        for name in self._names:
            if name != STDIN and os.path.isdir(name):
                yield from self._folder(name)
            else:
                yield Input(name)

    def location(self, name: str) -> str:
        """The path of a file, relative to the top of its repository; without one, to the current folder if all inputs are in it, else to
        the folder that they share. So it does not depend on where the search starts. Empty for standard input.
        """
        return "" if name == STDIN else os.path.relpath(name, self._base)

    def read(self, each: Input) -> bytes | None:
        """Read an input completely; return None if it is skipped.

        Raises:
            Unreadable: it cannot be read, or is too large. A file that is too large is not read at all; an input without a size is
                read up to the cap.
        """
        try:
            if each.name == STDIN:
                return _capped(sys.stdin.buffer)
            flags = os.O_NOFOLLOW | os.O_NONBLOCK if each.walked else 0
            with open(each.name, "rb", opener=lambda name, mode: os.open(name, mode | flags)) as file:
                found = os.fstat(file.fileno())
                if each.walked and (found.st_dev, found.st_ino) in self._but:
                    return None
                if each.walked and not stat.S_ISREG(found.st_mode):  # it changed since its folder was read
                    self.skipped[SPECIAL] += 1
                    return None
                body = _capped(file, found.st_size)
        except (OSError, ValueError) as error:
            raise Unreadable(getattr(error, "strerror", None) or "cannot be read") from None
        if each.walked and not looks_like_text(body) and not is_archive(body):
            self.skipped[BINARY] += 1
            return None
        return body

    def _folder(self, top: str) -> Iterator[Input]:
        """Walk a folder without recursion: hostile folders may be nested deeper than Python's recursion limit."""
        absolute = os.path.abspath(top)
        waiting = [("" if top == os.curdir else top, absolute, Ignored.above(absolute))]
        while waiting:
            name, absolute, ignored = waiting.pop()
            try:
                with os.scandir(name or os.curdir) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                self._failed(name or os.curdir, error.strerror or "cannot be read")
                continue
            ignored = ignored.within(absolute)
            folders = []
            for entry in entries:
                below, path = os.path.join(name, entry.name), os.path.join(absolute, entry.name)
                folder = entry.is_dir(follow_symlinks=False)
                if entry.name == ".git":
                    continue
                if entry.is_symlink():
                    self.skipped[LINK] += 1
                elif ignored.names(path, folder=folder):
                    self.skipped[IGNORED] += 1
                elif folder:
                    folders.append((below, path, ignored))
                elif entry.is_file(follow_symlinks=False):
                    yield Input(below, walked=True)
                else:
                    self.skipped[SPECIAL] += 1
            waiting += reversed(folders)


def _base(names: Sequence[str]) -> str:
    here = os.getcwd()
    tops = [os.path.abspath(name) for name in names if name != STDIN]
    if not tops:
        return here
    shared = os.path.commonpath([top if os.path.isdir(top) else os.path.dirname(top) for top in tops])
    if (top := repository(shared)) is not None:
        return top
    return here if os.path.commonpath([here, shared]) == here else shared


def _capped(file: BinaryIO, size: int = 0) -> bytes:
    body = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if max(size, len(body)) > MAX_BYTES:
        raise Unreadable(f"holds more than {MAX_BYTES} bytes")
    return body
