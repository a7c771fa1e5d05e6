"""User rule packs: gitleaks TOML, betterleaks TOML and Kingfisher YAML, read without losing what they mean."""

from worker.extract.packs.loading import load, load_all
from worker.extract.packs.model import Pack, PackRefused, Problem
from worker.extract.packs.scanning import PackScanner, scanner

__all__ = ["Pack", "PackRefused", "PackScanner", "Problem", "load", "load_all", "scanner"]
