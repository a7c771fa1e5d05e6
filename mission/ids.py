"""Mission ids: UUIDs in their canonical text (RFC 9562, section 4)."""

from __future__ import annotations

import os
import re

from mission.errors import InvalidMission
from mission.model import Reason

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_mission_id() -> str:
    """A fresh random id, of version 4: six of its bits are set. Written here since `uuid` takes thrice as long."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def is_mission_id(text: str) -> bool:
    """Whether it is one in canonical text."""
    return _UUID.fullmatch(text) is not None


def check_mission_id(text: object) -> str:
    """The id, if it is one in canonical text.

    Raises:
        InvalidMission: it is not; the text is not repeated, it may be anything.
    """
    if isinstance(text, str) and is_mission_id(text):
        return text
    raise InvalidMission(Reason.MALFORMED_MESSAGE, "a mission id is a UUID like 0f8fad5b-d9cb-469f-a165-70867728950e")
