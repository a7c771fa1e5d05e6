"""Durations, sizes and large numbers as people write them."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_COUNTS = {"k": 1e3, "M": 1e6, "G": 1e9}
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG])?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def parse_duration(value: object) -> float:
    """Seconds from a number or from text like `500ms`, `90s`, `5m`, `24h`, `7d`.

    Raises:
        ValueError: it is not a duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("not a duration")
    seconds = float(match[1]) * _UNITS[match[2] or "s"]
    if not math.isfinite(seconds):
        raise ValueError("not a duration")
    return seconds


def parse_count(value: str) -> float:
    """A number from text like `250k`, `50M`, `1.5G` or `1000000`.

    Raises:
        ValueError: the text is not such a number.
    """
    match = _COUNT.fullmatch(value.strip())
    if match is None or not math.isfinite(count := float(match[1]) * _COUNTS.get(match[2], 1)):
        raise ValueError("not a number")
    return count


def format_duration(seconds: float) -> str:
    """The shortest exact text for a duration in seconds: `7d`, `90s`."""
    unit = next((unit for unit in ("d", "h", "m") if seconds and seconds % _UNITS[unit] == 0), "s")
    return f"{seconds / _UNITS[unit]:.6f}".rstrip("0").rstrip(".") + unit


def format_size(size: int) -> str:
    """The shortest exact text for a size in bytes: `10MiB`, `1500B`."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size and size % _SIZES[unit] == 0), "B")
    return f"{size // _SIZES[unit]}{unit}"


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 secret`, `5,000 secrets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
