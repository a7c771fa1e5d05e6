"""Credentials of the right shape that nobody ever issued. They are assembled at run time, so that no scanner takes this file for a leak."""

from __future__ import annotations

import hashlib


def _some(characters: str, count: int, seed: str) -> str:
    """A string of `count` of these characters, always the same for a seed."""
    drawn, number = "", 0
    while len(drawn) < count:
        drawn += "".join(
            characters[byte % len(characters)] for byte in hashlib.sha256(f"{seed}{number}".encode()).digest()
        )
        number += 1
    return drawn[:count]


_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _UPPER + _UPPER.lower() + _DIGITS

GITHUB_TOKEN = "ghp" + "_" + _some(_LETTERS, 36, "github")
SLACK_TOKEN = "-".join(["xoxb", _some(_DIGITS, 12, "team"), _some(_DIGITS, 13, "bot"), _some(_LETTERS, 24, "slack")])
AWS_SECRET = _some(_LETTERS, 40, "aws")
STRIPE_KEY = "sk" + "_live_" + _some(_LETTERS, 24, "stripe")
PASSWORD = "tr0ub4dor" + "-" + _some(_LETTERS, 6, "password")
