"""One entry of the allowlist, `DECODER_ALLOWED_HOSTS`: what it may be, and what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from mission.errors import InvalidMission
from mission.url import parse_url

_ENTRY = re.compile(r"(?P<wildcard>\*\.)?(?P<host>[^/?#@:*]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry.

    Args:
        name: the host as a URL has it once parsed; behind `*.` where its subdomains are meant, and they alone.
        port: the port that it opens; None for the schemes' own.
    """

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host`, `*.host`, `host:port` or `*.host:port`; names may be in Unicode, hosts addresses.

        Raises:
            ValueError: it is none of these.
        """
        match = _ENTRY.fullmatch(text)
        try:
            url = parse_url(f"http://{match['host']}:{match['port'] or 80}") if match else None
        except InvalidMission:
            url = None
        if match is None or url is None or (match["wildcard"] and url.address):
            raise ValueError(f"{text[:80]!r} is no host, *.host, host:port or *.host:port")
        return cls((match["wildcard"] or "") + url.host, url.port if match["port"] else None)

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"
