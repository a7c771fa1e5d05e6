"""What looks for secrets: which detectors, with what; put together once for a process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mission.errors import SettingsError
from worker.extract.engine import RuleScanner, load
from worker.extract.packs import PackScanner, load_all, scanner

log = logging.getLogger("decoder.extract")

MARKER, PROVIDER, GENERIC = "marker", "provider", "generic"
# By rank: where two find the same place, the first of them tells it. Packs of the user's stand before the generic rules.
DETECTORS: Final = (MARKER, PROVIDER, GENERIC)
GENERIC_RULES = Path(__file__).parent / "generic.toml"


@dataclass(frozen=True, slots=True)
class Detectors:
    """Which detectors look for secrets, and with what.

    Attributes:
        names: of `DETECTORS`.
        markers: the opening and the closing one.
        rules: files of the user's rules.
        cache: a folder for compiled rules, which is made; nobody else may write to it.
    """

    names: tuple[str, ...] = DETECTORS
    markers: tuple[str, str] = ("{*", "*}")
    rules: tuple[Path, ...] = ()
    cache: Path = field(default_factory=lambda: user_cache())

    def scanners(self) -> Iterator[RuleScanner | PackScanner]:
        """Those that go by rules, by rank; none without the engine, and the log says so.

        Raises:
            SettingsError: a file of rules has a problem, or there is no engine for it.
        """
        if not engine_installed():
            if self.rules:
                raise SettingsError(f"DECODER_RULES: {NO_ENGINE}")
            if off := self.off():
                log.warning("%s; off: %s", NO_ENGINE, ", ".join(off))
            return
        if PROVIDER in self.names:
            yield load(PROVIDER, self.cache)
        for pack in load_all(self.rules):
            yield scanner(pack, self.cache)
        if GENERIC in self.names:
            yield load(GENERIC, self.cache, [GENERIC_RULES])

    def off(self) -> list[str]:
        """Those that cannot work here."""
        return [] if engine_installed() else [name for name in self.names if name != MARKER]


NO_ENGINE = (
    "rules need the package kingfisher-secret-scanner, which is not installed: pip install 'mission-decoder[rules]'"
)


def user_cache() -> Path:
    """The user's own folder for it (https://specifications.freedesktop.org/basedir)."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody knows the user's home
        base = Path("/nonexistent")
    return base / "mission-decoder"


def engine_installed() -> bool:
    """Whether there is an engine for rules: not every platform has a wheel of it."""
    return find_spec("kingfisher_sdk") is not None
