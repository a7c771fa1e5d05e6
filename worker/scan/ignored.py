"""Files that `.gitignore` files exclude, at every level, as git reads them (https://git-scm.com/docs/gitignore)."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

NAME = ".gitignore"
MAX_BYTES = 1024**2
# Lines with more `*` or `**` are not used: on a hostile long name the library would take minutes, or years.
MAX_STARS = 3
# Longer paths are not matched either.
MAX_PATH = 512
_STARS = re.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class Ignored:
    """The patterns of the `.gitignore` files from the repository's top down to one folder. The deepest match decides.

    Attributes:
        levels: the folder of each file, with a `/` at the end, and its patterns.
    """

    levels: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    @classmethod
    def above(cls, folder: str) -> Ignored:
        """The patterns of the folders above one, up to the top of its repository; none if it is in no repository.

        Args:
            folder: its absolute path.
        """
        top = repository(folder)
        parents: list[str] = []
        while top is not None and folder != top:
            folder = os.path.dirname(folder)
            parents.append(folder)
        ignored = cls()
        for parent in reversed(parents):
            ignored = ignored.within(parent)
        return ignored

    def within(self, folder: str) -> Ignored:
        """The same, with the patterns of one folder further down."""
        lines = [line for line in _lines(os.path.join(folder, NAME)) if _taken(line)]
        if not lines:
            return self
        return Ignored((*self.levels, (os.path.join(folder, ""), GitIgnoreSpec.from_lines(lines))))

    def names(self, path: str, *, folder: bool) -> bool:
        """Whether the patterns match a path below the folders that they come from."""
        for base, spec in reversed(self.levels):
            if len(below := path[len(base) :]) > MAX_PATH:
                continue
            below += "/" * folder
            for pattern in reversed(list(spec.patterns)):
                if pattern.include is not None and pattern.regex and _matches(pattern.regex, below):
                    return pattern.include
        return False


def _matches(regex: re.Pattern[str], path: str) -> bool:
    """Whether a pattern matches the path itself. The library also matches paths below a match; git decides those at the folder above."""
    match = regex.search(path)
    if match is None or "ps_d" not in regex.groupindex:
        return match is not None
    return match["ps_d"] is None or match.end("ps_d") == len(path)


def repository(folder: str) -> str | None:
    """The top of the repository that a folder is in, both as absolute paths; None if it is in none."""
    while not os.path.lexists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _lines(file: str) -> Iterator[str]:
    """Its patterns; none if it is not a file, cannot be read, or was not written by a person."""
    try:
        # git does not follow a link here either; reading anything but a regular file might never end.
        with open(
            file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        ) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return
            text = opened.read(MAX_BYTES).decode(errors="surrogateescape")  # as file names are
    except OSError:
        return
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = line.removesuffix("\r")
        # In git, `x/**` matches the content of the folder, and `x/**/` the folders in it; in the library, also the folder itself.
        for ending, clear in (("/**", "/*"), ("/**/", "/**/*/")):
            pattern = pattern.removesuffix(ending) + clear if pattern.endswith(ending) else pattern
        # The library lets each of these match any path with a folder in it.
        yield {"*/": "?*/", "!*/": "!?*/", "**/": "?*/", "!**/": "!?*/"}.get(pattern, pattern)


def _taken(line: str) -> bool:
    if not line.strip() or line.startswith("#"):
        return False
    if len(_STARS.findall(line)) > MAX_STARS:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about brackets that a later Python may read differently
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):  # git ignores such a line as well
            return False
    return True
