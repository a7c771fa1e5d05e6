"""The detectors that look for secrets, with their options; created once per process."""

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
# By rank: if two detectors match the same text, the first one reports it. The user's packs rank before the generic rules.
DETECTORS: Final = (MARKER, PROVIDER, GENERIC)
GENERIC_RULES = Path(__file__).parent / "generic.toml"


@dataclass(frozen=True, slots=True)
class Detectors:
    """The detectors that look for secrets, and their options.

    Attributes:
        names: of `DETECTORS`.
        markers: the opening and the closing one.
        rules: files of the user's rules.
        cache: a folder for compiled rules, created if missing; no other user may write to it.
    """

    names: tuple[str, ...] = DETECTORS
    markers: tuple[str, str] = ("{*", "*}")
    rules: tuple[Path, ...] = ()
    cache: Path = field(default_factory=lambda: user_cache())

    def scanners(self) -> Iterator[RuleScanner | PackScanner]:
        """The detectors that use rules, by rank; without the engine there are none, and a warning is logged.

        Raises:
            SettingsError: a rule file has a problem, or needs the missing engine.
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
        """The detectors that cannot work here."""
        return [] if engine_installed() else [name for name in self.names if name != MARKER]


NO_ENGINE = (
    "rules need the package kingfisher-secret-scanner, which is not installed: pip install 'mission-decoder[rules]'"
)


def user_cache() -> Path:
    """The user's own folder for it (https://specifications.freedesktop.org/basedir)."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # the user's home is unknown
        base = Path("/nonexistent")
    return base / "mission-decoder"


def engine_installed() -> bool:
    """Whether the rule engine is installed: not every platform has a wheel of it."""
    return find_spec("kingfisher_sdk") is not None
