"""Mission ids: UUIDs in their canonical text (RFC 9562, section 4)."""

from __future__ import annotations

import os
import re

from mission.errors import InvalidMission
from mission.model import Reason

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_mission_id() -> str:
    """A new random id, of version 4: six of its bits are fixed. Not by `uuid`, which takes three times as long."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def is_mission_id(text: str) -> bool:
    """Whether the text is a mission id in canonical form."""
    return _UUID.fullmatch(text) is not None


def check_mission_id(text: object) -> str:
    """The id, if it is a mission id in canonical form.

    Raises:
        InvalidMission: it is not; the message does not repeat the text, which may be anything.
    """
    if isinstance(text, str) and is_mission_id(text):
        return text
    raise InvalidMission(Reason.MALFORMED_MESSAGE, "a mission id is a UUID like 0f8fad5b-d9cb-469f-a165-70867728950e")
