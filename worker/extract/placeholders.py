"""False positives of the catalog's rules: placeholders, and other text that only looks like a credential."""

from __future__ import annotations

import binascii
import re
from typing import Final

# Longer values, such as keys and signed tokens, can contain any short word by chance.
_WORDY: Final = 200
_PLACEHOLDER = re.compile(
    r"(?i)x{4}|\*{3}|\.{3}|0{8}|1234567|example|change[_-]?(?:me|it|this)|place[_-]?holder|redacted|dummy|replace|insert[_-]"
    r"|your[_-]|[_-](?:here|token|key|secret|password)\b|[<>]|\$[{(]|(?:^|[:'\"])\$[A-Z_a-z]|\{\{|\{[a-z_0-9]*\}|%\(|%[ds](?![a-z0-9])|%7B"
)
# A password that is only a word for a credential, or a common trial value.
_COMMON = re.compile(
    r"(?:(?i:(?:my|the|your|db|test|user|admin)?[_-]?(?:pass(?:word|wd|phrase)?|passwd|pwd|pw|secret|token|key|credentials?)"
    r"|admin|root|guest|user(?:name)?|login|test|foo|bar|baz|demo|none|null|x-oauth-basic)[0-9]{0,4}|[A-Z]+(?:_[A-Z]+)*)"
)
_AMAZON = re.compile(r"[Aa][Ww][Ss]|[Aa]mazon|A[KS]IA[A-Z2-7]{12}")
_NEAR: Final = 200
_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/]{32}")


def is_placeholder(category: str, value: str, text: str, start: int) -> bool:
    """Whether a finding of the catalog is a placeholder.

    Args:
        category: the rule's category.
        value: the value that it found.
        text: contains the value, from character `start`.
    """
    if len(value) <= _WORDY and _PLACEHOLDER.search(value):
        return True
    match category:
        case "private-key":
            return not _KEY_MATERIAL.search(value)
        case "aws-secret-access-key":  # the rule matches any forty characters next to a word like key
            return not _AMAZON.search(text, max(0, start - _NEAR), start + len(value) + _NEAR)
        case "generic-credential-uri":
            return bool(_COMMON.fullmatch(value)) or text.startswith(f"/{value}:", start - len(value) - 2)
        case "curl-auth-user" | "curl-auth-header":
            user, _colon, password = _plain(value).rpartition(":")
            return bool(_COMMON.fullmatch(password)) or user == password
        case _:
            return False


def _plain(value: str) -> str:
    """The user and password of a Basic credential, decoded from base64."""
    try:
        return binascii.a2b_base64(value, strict_mode=True).decode("ascii")
    except ValueError:
        return value.strip("\"'")
