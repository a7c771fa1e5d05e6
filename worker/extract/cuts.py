"""The words that say what a search left out of a document, and why: a closed set, fit for a metric's label."""

from __future__ import annotations

from enum import StrEnum


class Cut(StrEnum):
    """Why something was not looked at. Whatever bounds its work adds them to the caller's `set[Cut]`."""

    TIME = "time"  # the deadline came
    BYTES = "bytes"  # more was unpacked or decoded than may be
    MEMBERS = "members"  # more members than may be
    DEPTH = "depth"  # archives within archives, deeper than may be
    RATIO = "ratio"  # it unpacks to far more than its size: a bomb
    MEMORY = "memory"  # its dictionary is larger than may be
    DAMAGED = "damaged"  # it is not what its first bytes say
    ENCRYPTED = "encrypted"  # nobody has the password
    UNSUPPORTED = "unsupported"  # a method of compression that the standard library does not know
